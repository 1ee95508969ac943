//! The curve as a picture: recall against queries per second, and beside it the share of each stage
//! in the time of a query, for growing numbers of cells.

use super::{measure::Point, report::SearchResult, stages::Stage};
use crate::error::{CliError, Result};
use akidb::vfs::{RealFs, write_file_durably};
use plotters::{
    chart::ChartContext,
    coord::{CoordTranslate, Shift},
    prelude::{
        BindKeyPoints, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange,
        LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, WHITE,
    },
};
use std::{error::Error, ops::Range, path::Path, result};

const SIZE: (u32, u32) = (1200, 480);
const TEXT: u32 = 14;
/// Of lines and bars, in this order; told apart by people who see fewer colours too (Okabe and Ito,
/// 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
/// Below it the curve is not looked at.
const RECALL_MIN: f64 = 0.80;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = result::Result<(), Box<dyn Error>>;

/// Writes the picture.
pub(super) fn write(file: &Path, found: &SearchResult) -> Result<()> {
    let svg = draw(found).map_err(|error| CliError::WriteFile {
        file: file.to_owned(),
        detail: error.to_string(),
    })?;
    Ok(write_file_durably(&RealFs, file, svg.as_bytes())?)
}

fn draw(found: &SearchResult) -> result::Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(SIZE.0 / 2);
        curves(&left, found)?;
        stages(&right, &probing(found))?;
        area.present()?;
    }
    Ok(svg)
}

/// The points of the curve with one thread, by cells.
fn probing(found: &SearchResult) -> Vec<&Point> {
    let first = found.points.first().map(|point| point.params.threads);
    let probes =
        |point: &&Point| point.params.nprobe.is_some() && Some(point.params.threads) == first;
    found.points.iter().filter(probes).collect()
}

/// One line for each number of threads.
fn curves(area: &Area<'_>, found: &SearchResult) -> Drawn {
    let mut threads: Vec<usize> = found.points.iter().map(|point| point.params.threads).collect();
    threads.dedup();
    let line = |threads: usize| -> Vec<(f64, f64)> {
        let of = |point: &&Point| {
            point.params.threads == threads
                && point.params.nprobe.is_some()
                && point.recall >= RECALL_MIN
        };
        found.points.iter().filter(of).map(|point| (point.recall, point.qps)).collect()
    };
    let all: Vec<f64> = threads.iter().flat_map(|n| line(*n)).map(|(_, qps)| qps).collect();
    let lowest = all.iter().copied().fold(f64::INFINITY, f64::min).clamp(1.0, 1e9);
    let highest = all.iter().copied().fold(lowest, f64::max);
    let range = lowest / 1.2..highest * 1.2;
    let speeds = (range.clone().log_scale()).with_key_points(round_numbers(&range));
    let mut chart = ChartBuilder::on(area)
        .caption("recall against queries per second", ("sans-serif", TEXT + 4))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(RECALL_MIN..1.0, speeds)?;
    chart
        .configure_mesh()
        .x_desc("recall")
        .y_desc("queries/s")
        .max_light_lines(0)
        .x_label_formatter(&|recall| format!("{recall:.2}"))
        .y_label_formatter(&|qps| format!("{qps:.0}"))
        .label_style(("sans-serif", TEXT).into_font())
        .draw()?;
    for (threads, colour) in threads.into_iter().zip(COLOURS.iter().cycle()) {
        let name = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        chart
            .draw_series(LineSeries::new(line(threads), colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::LowerLeft)
}

/// The numbers of one digit, 1, 2, 3, 5 or 7, in a range: labels of a logarithmic axis.
fn round_numbers(range: &Range<f64>) -> Vec<f64> {
    let powers = (0..12).map(|power| 10_f64.powi(power));
    let numbers = powers.flat_map(|power| [1.0, 2.0, 3.0, 5.0, 7.0].map(|digit| digit * power));
    numbers.filter(|number| range.contains(number)).collect()
}

/// One bar for each number of cells, as high as all time together.
fn stages(area: &Area<'_>, points: &[&Point]) -> Drawn {
    let bars = points.len().max(1);
    let mut chart = ChartBuilder::on(area)
        .caption("share of each stage in a query's time", ("sans-serif", TEXT + 4))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        // A fifth of the width, on the right, is left for the names.
        .build_cartesian_2d(-0.6..bars as f64 * 1.2, 0.0..1.0)?;
    let cells = |x: &f64| {
        let point = points.get(*x as usize).filter(|_| x.fract() == 0.0);
        point.and_then(|point| point.params.nprobe).map_or_else(String::new, |n| n.to_string())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .x_labels(bars.min(24))
        .x_desc("cells probed")
        .x_label_formatter(&cells)
        .y_label_formatter(&|share| format!("{:.0} %", share * 100.0))
        .label_style(("sans-serif", TEXT).into_font())
        .draw()?;
    let names = points.first().map_or(&[][..], |point| &point.stages.stages);
    for (at, (stage, colour)) in names.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let bar = |(x, point): (usize, &&Point)| {
            let of = |stages: &[Stage]| stages.iter().map(|stage| stage.share).sum::<f64>();
            let low = of(point.stages.stages.get(..at).unwrap_or_default());
            let high = of(point.stages.stages.get(..=at).unwrap_or_default());
            let x = x as f64;
            Rectangle::new([(x - 0.4, low), (x + 0.4, high)], colour.filled())
        };
        chart
            .draw_series(points.iter().enumerate().map(bar))?
            .label(stage.stage)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    legend(&mut chart, SeriesLabelPosition::MiddleRight)
}

/// The names of what was drawn, in a corner.
fn legend<'a, C: CoordTranslate>(
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
