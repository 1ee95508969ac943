//! Threads that write and read the same keys while rows move about and the power goes: every key's
//! history is linearizable, and what is found afterwards is a prefix in LSN order. A short run of
//! the evidence machine `history`.

use akidb_tests::evidence::{Options, history, run};

#[test]
fn d3_histories_of_shared_keys_are_linearizable_and_crashes_leave_a_prefix() {
    let report = run(&history::MACHINE, &Options::short(0, 20), &|_, _| {});
    report.assert_passed();
    assert!(report.counts.states() >= 10_000, "{report}");
    assert!(report.counts.get("writes that overlapped another on their key") > 0, "{report}");
    assert!(report.counts.get("lost as their level allows") > 0, "{report}");
}
