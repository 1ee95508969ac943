//! The curve as a picture: recall against queries per second, and beside it the share of each stage
//! in the time of a query, for growing numbers of cells.

use super::{measure::Point, report::SearchResult, stages::Stage};
use crate::{
    bench::plot::{self, Area, COLOURS, Drawn, TEXT},
    error::Result,
};
use plotters::prelude::{
    ChartBuilder, Color, IntoFont, LineSeries, PathElement, Rectangle, SeriesLabelPosition,
};
use std::path::Path;

const SIZE: (u32, u32) = (1200, 480);
/// Below it the curve is not looked at.
const RECALL_MIN: f64 = 0.80;

/// Writes the picture.
pub(super) fn write(file: &Path, found: &SearchResult) -> Result<()> {
    plot::write(file, SIZE, |area| {
        let (left, right) = area.split_horizontally(SIZE.0 / 2);
        curves(&left, found)?;
        stages(&right, &probing(found))
    })
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
    let mut chart = ChartBuilder::on(area)
        .caption("recall against queries per second", ("sans-serif", TEXT + 4))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(RECALL_MIN..1.0, plot::log_axis(&all))?;
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
    plot::legend(&mut chart, SeriesLabelPosition::LowerLeft)
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
    plot::legend(&mut chart, SeriesLabelPosition::MiddleRight)
}
