//! Values that a program can build and no text can hold.

use akidb::{Cause, InputError, Metric, Point, Schema, blocking::Db};
use serde_json::{Value, json};

/// Runs `test` on a stack that holds the value, which is dropped by recursion.
fn on_a_deep_stack(test: impl FnOnce() + Send + 'static) {
    let builder = std::thread::Builder::new().stack_size(256 << 20);
    #[expect(clippy::disallowed_methods, reason = "the wrapper has no stack size to set")]
    let thread = builder.spawn(test).expect("a thread");
    thread.join().expect("no panic");
}

#[test]
fn a_patch_that_nests_deeper_than_the_log_threads_stack_is_refused() {
    on_a_deep_stack(|| {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path()).unwrap();
        let docs = db.create_collection("docs", Schema::new(2, Metric::L2)).unwrap();
        docs.upsert([Point::new("a", [1.0, 2.0])]).run().unwrap();
        let mut deep = json!(1);
        for _ in 0..30_000 {
            deep = Value::Array(vec![deep]);
        }
        let error = docs.update_metadata([("a", json!({ "deep": deep }))]).run().unwrap_err();
        assert!(matches!(error.cause(), Cause::Input(InputError::MetadataTooDeep { .. })));
        assert_eq!(docs.get(["a"]).unwrap().len(), 1, "the log thread lives");
    });
}
