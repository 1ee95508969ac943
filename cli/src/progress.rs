//! A progress bar on standard error: hidden for machines, and by the library when standard error
//! is not a terminal.

use crate::{output::Output, units};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::{fmt, time::Duration};

/// A bar. It disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `rows` rows of `what`.
    pub(crate) fn new(output: Output, what: &'static str, rows: u64) -> Self {
        if output.is_json() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(rows).with_message(what);
        // A template that the library refuses leaves its default style: still a progress bar.
        if let Ok(style) = ProgressStyle::with_template(
            "{msg} {bar:32} {human_pos}/{human_len} rows  {rate}  {eta} left",
        ) {
            bar.set_style(style.with_key("rate", rate));
        }
        Self(bar)
    }

    /// A bar for so many `things` that are not rows.
    pub(crate) fn things(output: Output, what: &'static str, things: &str, n: u64) -> Self {
        if output.is_json() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(n).with_message(what);
        let template =
            format!("{{msg}} {{bar:32}} {{human_pos}}/{{human_len}} {things}  {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Something turns while one thing is done whose share is not known.
    pub(crate) fn spinner(output: Output, what: String) -> Self {
        if output.is_json() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// A bar of bytes, whose number is not known before they are read.
    pub(crate) fn bytes(output: Output, what: &'static str) -> Self {
        if output.is_json() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(0).with_message(what);
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {bar:32} {bytes}/{total_bytes}  {eta} left")
        {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(crate) fn set(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }

    pub(crate) fn add(&self, rows: usize) {
        self.0.inc(rows as u64);
    }
}

fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // The bar is for people: where it cannot be drawn, nothing is lost.
    let _ = out.write_str(&units::rows_per_s(state.per_sec()));
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
