//! Targets whose input is no file: records, blocks, filters, programs.

use super::input::Input;
use crate::{condition::FIELDS, ops::Step, run::run_steps};
use akidb::{Filter, Metadata, Metric, Schema, testing};
use serde_json::Value;

/// The most steps of a program: more take long and find no more.
const STEPS_MAX: usize = 60;
/// The most rows that a filter is answered for.
const ROWS_MAX: usize = 40;

/// A line is the body of a frame.
pub(super) fn manifest(data: &[u8]) -> bool {
    let bodies: Vec<_> =
        data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    testing::manifest(&bodies).is_ok()
}

pub(super) fn log_record(data: &[u8]) -> bool {
    testing::log_record(data).is_ok()
}

/// A length and a probe, then the block.
pub(super) fn field_index(data: &[u8]) -> bool {
    let mut input = Input(data);
    let len = usize::from(input.u8() % 32);
    let probe = input.take(len);
    testing::field_index(input.0, probe).is_ok()
}

/// A filter, and behind the first line end a list of rows, both as JSON.
pub(super) fn filter(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (text, rows) = text.split_once('\n').unwrap_or((text, "[]"));
    let Ok(filter) = text.parse::<Filter>() else { return false };
    let again = Filter::from_json(&filter.to_json());
    assert_eq!(again.as_ref(), Ok(&filter), "a filter's own JSON form is another filter");
    let rows: Vec<Metadata> = match serde_json::from_str(rows) {
        Ok(Value::Array(rows)) => {
            let object = |row| if let Value::Object(row) = row { Some(row) } else { None };
            rows.into_iter().filter_map(object).take(ROWS_MAX).collect()
        }
        _ => Vec::new(),
    };
    let mut indexed = Schema::new(4, Metric::Dot);
    for (name, field_type) in FIELDS {
        indexed = indexed.field(name, field_type);
    }
    drop(testing::filter(&filter, &indexed, &rows));
    testing::filter(&filter, &Schema::new(4, Metric::Dot), &rows).is_ok()
}

/// A byte that seeds the world, then four bytes a step, which seed what the step does: a change
/// of the input changes one step, and steps can be taken out, doubled and exchanged.
pub(super) fn operations(data: &[u8]) -> bool {
    let mut input = Input(data);
    let seed = u64::from(input.u8());
    let steps = input.0.as_chunks::<4>().0.iter().take(STEPS_MAX).map(|step| {
        let mut rng = fastrand::Rng::with_seed(u64::from(u32::from_le_bytes(*step)));
        Step::any(&mut rng, true)
    });
    run_steps(seed, &steps.collect::<Vec<_>>());
    true
}
