//! What is shipped a second against how much is under way at once, as a picture: a line for each number
//! of collections in an object, at each level.

use super::Point;
use crate::{
    bench::plot::{self, Area, COLOURS, Drawn, TEXT},
    error::Result,
};
use plotters::prelude::{
    ChartBuilder, Color, IntoFont, LineSeries, PathElement, SeriesLabelPosition,
};
use std::path::Path;

const SIZE: (u32, u32) = (800, 480);

/// Writes the picture.
pub(super) fn write(file: &Path, points: &[Point]) -> Result<()> {
    plot::write(file, SIZE, |area| draw(area, points))
}

/// What one line shows: a level, and how many collections share an object there.
fn lines(points: &[Point]) -> Vec<(&'static str, usize)> {
    let mut lines: Vec<_> = points.iter().map(|point| (point.level, point.batch)).collect();
    lines.dedup();
    lines
}

fn name((level, batch): (&str, usize)) -> String {
    match (level, batch) {
        ("engine", 1) => "demotions of a database".to_owned(),
        ("engine", batch) => format!("demotions, {batch} in a pack"),
        (_, 1) => "an object each".to_owned(),
        (_, batch) => format!("{batch} in an object"),
    }
}

fn draw(area: &Area<'_>, points: &[Point]) -> Drawn {
    let at_once: Vec<f64> = points.iter().map(|point| point.concurrency as f64).collect();
    let speeds: Vec<f64> = points.iter().map(|point| point.collections_per_s).collect();
    let mut chart = ChartBuilder::on(area)
        .caption("collections shipped per second", ("sans-serif", TEXT + 4))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(plot::log_axis(&at_once), plot::log_axis(&speeds))?;
    chart
        .configure_mesh()
        .x_desc("uploads at once")
        .y_desc("collections/s")
        .max_light_lines(0)
        .x_label_formatter(&|at_once| format!("{at_once:.0}"))
        .y_label_formatter(&|speed| format!("{speed:.0}"))
        .label_style(("sans-serif", TEXT).into_font())
        .draw()?;
    for (line, colour) in lines(points).into_iter().zip(COLOURS.iter().cycle()) {
        let of = |point: &&Point| (point.level, point.batch) == line;
        let line_points = points
            .iter()
            .filter(of)
            .map(|point| (point.concurrency as f64, point.collections_per_s));
        chart
            .draw_series(LineSeries::new(line_points, colour.stroke_width(2)).point_size(3))?
            .label(name(line))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    plot::legend(&mut chart, SeriesLabelPosition::LowerRight)
}
