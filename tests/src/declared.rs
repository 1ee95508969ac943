//! Compares what a damaged database still shows with what it showed before and with what is said
//! to be lost. Owns the rule that nothing is missing, back or different that was not declared.

use crate::{
    fixture::{AllRows, row},
    oracle::Rows,
    run::scan_all,
};
use akidb::{Loss, LossKind, PointId, blocking::Db};
use std::collections::BTreeSet;

/// The rows of the fixture's collections that a database shows, whatever they are called now.
///
/// # Panics
/// When a collection cannot be read.
pub fn shown(db: &Db, what: &str) -> AllRows {
    let names = db.list_collections().expect("it is open");
    let find = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| db.collection(name).ok());
        found.map(|found| scan_all(&found, 10).unwrap_or_else(|| panic!("{what}: no scan")))
    };
    assert!(names.len() <= 2, "{what}: {names:?}");
    let cold = find(["cold", "recovered-0"]).unwrap_or_default();
    AllRows::from([("cold", cold), ("docs", find(["docs", "recovered-1"]).unwrap_or_default())])
}

/// Fails if `found` differs from `wanted` in a way that `losses` do not declare.
///
/// # Panics
/// As said.
pub fn check_declared(found: &AllRows, wanted: &AllRows, losses: &[Loss], what: &str) {
    for (name, wanted) in wanted {
        let number = if *name == "cold" { "recovered-0" } else { "recovered-1" };
        let concerns = |loss: &&Loss| {
            loss.collections.is_empty() || loss.collections.iter().any(|c| c == name || c == number)
        };
        let losses: Vec<&Loss> = losses.iter().filter(concerns).collect();
        let found = found.get(name).cloned().unwrap_or_default();
        check_collection(&found, wanted, &losses, &format!("{what}, {name}"));
    }
}

fn check_collection(found: &Rows, wanted: &Rows, losses: &[&Loss], what: &str) {
    let of = |kinds: &[LossKind]| losses.iter().filter(|l| kinds.contains(&l.kind)).count() > 0;
    let vague = of(&[LossKind::Uncertain, LossKind::UnreadableWrites]);
    let writes = of(&[LossKind::GivenUpWrites]);
    for (id, shown) in found {
        let PointId::U64(n) = id else { panic!("{what}: a row of another life: {id}") };
        let written = row(*n);
        assert_eq!(shown.vector, written.vector, "{what}: {id} was never written so");
        match wanted.get(id) {
            Some(wanted) if wanted == shown => {}
            // A row of before the losses: replaced or deleted by a write that is lost.
            _ => assert!(vague || writes, "{what}: {id} is back and nobody said so: {losses:?}"),
        }
    }
    let missing: BTreeSet<&PointId> = wanted.keys().filter(|id| !found.contains_key(*id)).collect();
    let named: BTreeSet<&PointId> = losses.iter().flat_map(|loss| &loss.ids).collect();
    let unnamed = missing.difference(&named).count() as u64;
    // Rows whose ids nobody knows, or an unknown number of them.
    let budget = losses.iter().map(|loss| match (loss.kind, loss.rows) {
        (LossKind::Rows, Some(rows)) => rows.saturating_sub(loss.ids.len() as u64),
        (LossKind::Rows | LossKind::UnreadableWrites, None) => u64::MAX / 16,
        (LossKind::Uncertain, None) if loss.collections.is_empty() => u64::MAX / 16,
        _ => 0,
    });
    assert!(
        unnamed <= budget.sum::<u64>(),
        "{what}: {missing:?} are missing, {losses:?} does not say so"
    );
}
