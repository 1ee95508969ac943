//! What `bench search` found, as JSON and as text. The keys of the JSON are an interface: they are
//! added, never renamed.

use super::{
    curve::Mark,
    filters::Filtered,
    ingest::Ingest,
    input::{Built, Input},
    measure::Point,
    memory::Memory,
    memtable::Memtable,
};
use crate::{
    output::{self, Report},
    tiers::Tier,
    units,
};
use akidb::blocking::Collection;
use serde::Serialize;
use std::fmt::Write;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct SearchResult {
    pub(super) rows: u64,
    pub(super) dim: u32,
    pub(super) queries: usize,
    /// Ingest, flush and compaction to one segment.
    pub(super) build_s: f64,
    pub(super) ingest_s: f64,
    pub(super) flush_s: f64,
    pub(super) compact_s: f64,
    pub(super) ingest_rows_per_s: f64,
    pub(super) flush_rows_per_s: Option<f64>,
    pub(super) compact_rows_per_s: Option<f64>,
    pub(super) demote_rows_per_s: Option<f64>,
    pub(super) promote_rows_per_s: Option<f64>,
    /// Of the one segment that was searched.
    pub(super) bytes_per_row_disk: f64,
    pub(super) memory: Memory,
    pub(super) tiers: Vec<Tier>,
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) points: Vec<Point>,
    pub(super) at_recall: Vec<Mark>,
    pub(super) filters: Vec<Filtered>,
    pub(super) memtables: Vec<Memtable>,
    pub(super) ingest: Option<Ingest>,
}

impl SearchResult {
    /// A result with nothing searched yet.
    pub(super) fn new(input: &Input, collection: &Collection, built: Built) -> Self {
        let segments = collection.stats().segments;
        Self {
            rows: segments.iter().map(|segment| segment.rows - segment.dead_rows).sum(),
            dim: input.source.dim(),
            queries: input.queries.len(),
            build_s: built.time.as_secs_f64(),
            ingest_s: built.ingest.time.as_secs_f64(),
            flush_s: built.flush.time.as_secs_f64(),
            compact_s: built.compact.time.as_secs_f64(),
            ingest_rows_per_s: units::per_second(built.ingest.rows, built.ingest.time),
            flush_rows_per_s: built.flush.rows_per_s(),
            compact_rows_per_s: built.compact.rows_per_s(),
            demote_rows_per_s: None,
            promote_rows_per_s: None,
            bytes_per_row_disk: 0.0,
            memory: Memory::default(),
            tiers: vec![built.log],
            peak_rss_bytes: None,
            points: Vec::new(),
            at_recall: Vec::new(),
            filters: Vec::new(),
            memtables: Vec::new(),
            ingest: None,
        }
    }
}

impl Report for SearchResult {
    fn text(&self) -> String {
        let mut text = self.build_text();
        section(&mut text, "the curve", &curve_table(&self.points));
        section(&mut text, "first point at a recall", &marks_table(&self.at_recall));
        if let Some(stages) = stages_text(&self.points) {
            section(&mut text, "where the time of a query goes", &stages);
        }
        for filtered in &self.filters {
            let share = filtered.selectivity * 100.0;
            let matches = units::count(filtered.matches);
            let title = format!("filter {}: {matches} rows, {share:.2} %", filtered.filter);
            section(&mut text, &title, &curve_table(&filtered.points));
        }
        for memtable in &self.memtables {
            let title = format!(
                "memtable of {} rows: inserts {}, {:.0} bytes a row in memory, flushed in {} ({}), \
                 merged with as many at {}",
                units::count(memtable.rows as u64),
                units::rows_per_s(memtable.insert_rows_per_s),
                memtable.bytes_per_row_memory,
                units::micros(memtable.flush_s * 1e6),
                units::rows_per_s(memtable.flush_rows_per_s),
                memtable.merge_rows_per_s.map_or_else(|| "-".to_owned(), units::rows_per_s),
            );
            section(&mut text, &title, &curve_table(&memtable.points));
        }
        if let Some(ingest) = &self.ingest {
            section(&mut text, "ingest with a search beside it", &ingest_text(ingest));
        }
        text
    }
}

fn section(text: &mut String, title: &str, body: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\n\n{title}\n{body}");
}

impl SearchResult {
    fn build_text(&self) -> String {
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), units::rows_per_s);
        let bytes =
            |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |b| format!("{b:.0}"));
        format!(
            "built {} rows of dimension {} in {}: ingest {}, flush {}, compaction {}\n\
             demotion {}, promotion {}; bytes a row: {:.0} in the segment, {} of memory and {} of \
             mapped files",
            units::count(self.rows),
            self.dim,
            units::micros(self.build_s * 1e6),
            units::rows_per_s(self.ingest_rows_per_s),
            rate(self.flush_rows_per_s),
            rate(self.compact_rows_per_s),
            rate(self.demote_rows_per_s),
            rate(self.promote_rows_per_s),
            self.bytes_per_row_disk,
            bytes(self.memory.anonymous_bytes_per_row),
            bytes(self.memory.mapped_bytes_per_row),
        )
    }
}

fn curve_table(points: &[Point]) -> String {
    let mut table = output::table([
        "asked",
        "plan",
        "threads",
        "recall",
        "5th %",
        "queries/s",
        "p50",
        "p95",
        "p99",
        "scanned",
        "scored",
    ]);
    for point in points {
        let asked = match (point.params.nprobe, point.params.recall_target) {
            (Some(nprobe), _) => units::things(nprobe as u64, "cell"),
            (_, Some(target)) => format!("recall {target}"),
            _ => "exact".to_owned(),
        };
        table.add_row([
            asked,
            point.params.plan.clone(),
            point.params.threads.to_string(),
            format!("{:.4}", point.recall),
            format!("{:.2}", point.recall_p5),
            format!("{:.0}", point.qps),
            units::micros(point.latency.p50_us),
            units::micros(point.latency.p95_us),
            units::micros(point.latency.p99_us),
            units::count(point.stages.rows_scanned_per_query.round() as u64),
            units::count(point.stages.rows_scored_per_query.round() as u64),
        ]);
    }
    output::align_right(&mut table, 2..11);
    table.to_string()
}

fn marks_table(marks: &[Mark]) -> String {
    let mut table =
        output::table(["recall", "threads", "cells", "reached", "queries/s", "p50", "p95", "p99"]);
    for mark in marks {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.add_row([
            format!("{:.2}", mark.mark),
            mark.threads.to_string(),
            or_dash(mark.nprobe.map(|nprobe| nprobe.to_string())),
            or_dash(mark.recall.map(|recall| format!("{recall:.4}"))),
            or_dash(mark.qps.map(|qps| format!("{qps:.0}"))),
            or_dash(mark.p50_us.map(units::micros)),
            or_dash(mark.p95_us.map(units::micros)),
            or_dash(mark.p99_us.map(units::micros)),
        ]);
    }
    output::align_right(&mut table, 0..8);
    table.to_string()
}

/// The stages of the points that asked for a recall, one line each.
fn stages_text(points: &[Point]) -> Option<String> {
    let line = |point: &Point| {
        let target = point.params.recall_target?;
        let stages = point.stages.stages.iter().map(|stage| {
            format!("{} {:.1} us ({:.0} %)", stage.stage, stage.us, stage.share * 100.0)
        });
        let threads = units::things(point.params.threads as u64, "thread");
        Some(format!("recall {target}, {threads}: {}", stages.collect::<Vec<_>>().join(", ")))
    };
    let lines: Vec<String> = points.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn ingest_text(ingest: &Ingest) -> String {
    let times = |times: &crate::bench::latency::Percentiles| {
        let (p50, p99) = (units::micros(times.p50_us), units::micros(times.p99_us));
        format!("p50 {p50}, p99 {p99}")
    };
    format!(
        "{} in durable batches of {} ({}); {:.0} searches/s meanwhile ({}); {} flushes, {} \
         compactions",
        units::rows_per_s(ingest.rows_per_s),
        ingest.batch,
        times(&ingest.batch_latency),
        ingest.searches_per_s,
        times(&ingest.search_latency),
        ingest.flushes,
        ingest.compactions,
    )
}
