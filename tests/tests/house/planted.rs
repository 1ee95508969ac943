//! Planted defects: what the code can switch on is what the machine `defects` looks for, and
//! nothing of it is documentation alone.

use super::tree::{report, rust_files};
use akidb_tests::evidence::defects::DEFECTS;
use std::collections::BTreeSet;

#[test]
fn every_planted_defect_is_looked_for_and_every_listed_one_is_planted() {
    let shipped = rust_files().into_iter().filter(|file| !file.is_test());
    let mut planted = BTreeSet::new();
    for file in shipped.filter(|file| file.path != "vfs/src/defect.rs") {
        let names = file.text.split("planted(\"").skip(1);
        planted.extend(names.filter_map(|rest| rest.split_once('"').map(|at| at.0.to_owned())));
    }
    let listed: BTreeSet<_> = DEFECTS.iter().map(|defect| defect.name.to_owned()).collect();
    assert_eq!(listed.len(), DEFECTS.len(), "a defect is listed twice");
    let differences: Vec<_> = planted.symmetric_difference(&listed).cloned().collect();
    report("planted in the code, or listed in evidence::defects, but not both:", &differences);
}

#[test]
fn a_plain_build_has_no_defects() {
    let on = DEFECTS.iter().filter(|defect| akidb_vfs::planted(defect.name));
    assert_eq!(on.count(), 0);
}
