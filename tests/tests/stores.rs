//! Every verb of an object store, failing in every way: a short run of the evidence machine `stores`
//! (T9).

use akidb_tests::evidence::{Options, run, stores};

#[test]
fn every_call_on_a_failing_store_does_as_it_says() {
    let report = run(&stores::MACHINE, &Options::short(0, 500), &|_, _| {});
    report.assert_passed();
    for verb in stores::VERBS {
        for fault in stores::fault_names() {
            let pair = format!("{verb:?}: {fault}");
            assert!(report.counts.get(&pair) > 0, "{pair} never happened: {report}");
        }
    }
}
