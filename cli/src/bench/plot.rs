//! Pictures of measurements: what the plots of the benchmarks have in common. Each draws its own lines;
//! the colours, the axes, the legend and the file are here.

use crate::error::{CliError, Result};
use akidb::vfs::{RealFs, write_file_durably};
use plotters::{
    chart::ChartContext,
    coord::{
        CoordTranslate, Shift,
        combinators::{LogCoord, WithKeyPoints},
    },
    prelude::{
        BindKeyPoints, Color, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, RGBColor,
        SVGBackend, SeriesLabelPosition, WHITE,
    },
};
use std::{error::Error, ops::Range, path::Path, result};

/// The size of letters.
pub(super) const TEXT: u32 = 14;
/// Of lines and bars, in this order; told apart by people who see fewer colours too (Okabe and Ito,
/// 2008).
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = result::Result<(), Box<dyn Error>>;

/// Writes a picture of this size, in which `draw` draws.
pub(super) fn write(
    file: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<()> {
    let svg = picture(size, draw).map_err(|error| CliError::WriteFile {
        file: file.to_owned(),
        detail: error.to_string(),
    })?;
    Ok(write_file_durably(&RealFs, file, svg.as_bytes())?)
}

fn picture(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> result::Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// A logarithmic axis with room for all these numbers, labelled by round ones.
pub(super) fn log_axis(all: &[f64]) -> WithKeyPoints<LogCoord<f64>> {
    let lowest = all.iter().copied().fold(f64::INFINITY, f64::min).clamp(1.0, 1e9);
    let highest = all.iter().copied().fold(lowest, f64::max);
    let range = lowest / 1.2..highest * 1.2;
    let labels = round_numbers(&range);
    range.log_scale().with_key_points(labels)
}

/// The numbers of one digit, 1, 2, 3, 5 or 7, in a range: labels of a logarithmic axis.
fn round_numbers(range: &Range<f64>) -> Vec<f64> {
    let powers = (0..12).map(|power| 10_f64.powi(power));
    let numbers = powers.flat_map(|power| [1.0, 2.0, 3.0, 5.0, 7.0].map(|digit| digit * power));
    numbers.filter(|number| range.contains(number)).collect()
}

/// The names of what was drawn, in a corner.
pub(super) fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> Drawn {
    let labels = &mut chart.configure_series_labels();
    labels
        .position(position)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(160, 160, 160))
        .label_font(("sans-serif", TEXT).into_font())
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_round_numbers_within_the_range() {
        assert_eq!(round_numbers(&(90.0..310.0)), [100.0, 200.0, 300.0]);
        assert!(round_numbers(&(0.1..0.2)).is_empty());
    }
}
