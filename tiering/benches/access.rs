//! What counting its accesses costs a search: `cargo bench -p akidb-tiering --bench access`. The
//! first line is the whole cost, clock included; a search that reads the clock anyway pays the
//! second.

#![expect(missing_docs, reason = "criterion's macro makes a public function without any")]

use akidb_tiering::AccessTracker;
use akidb_vfs::{Clock, SystemClock};
use criterion::{Criterion, criterion_group, criterion_main};
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

fn access(criterion: &mut Criterion) {
    let clock = SystemClock::new();
    let tracker = AccessTracker::new(HOUR, clock.monotonic());
    let mut group = criterion.benchmark_group("access");
    group.bench_function("record, clock included", |bencher| {
        bencher.iter(|| tracker.record(clock.monotonic()));
    });
    let now = clock.monotonic();
    group.bench_function("record", |bencher| bencher.iter(|| tracker.record(black_box(now))));
    group.bench_function("record beside another thread", |bencher| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = akidb_vfs::thread::spawn_scoped(scope, "other", || {
                while !done.load(Ordering::Relaxed) {
                    tracker.record(black_box(now));
                }
            });
            bencher.iter(|| tracker.record(black_box(now)));
            done.store(true, Ordering::Relaxed);
            other.expect("the machine has a second thread").join().expect("it counts");
        });
    });
    group.bench_function("summary", |bencher| bencher.iter(|| tracker.summary(black_box(now))));
    group.finish();
}

criterion_group!(benches, access);
criterion_main!(benches);
