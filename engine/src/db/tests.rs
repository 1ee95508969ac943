//! Rules of the shared heart that no public call reaches alone.

use super::{Components, DbCore, open};
use crate::{
    Durability, Metric, Schema,
    collection::{CollectionCore, NewRow},
    commit::{CommitSink, Done, Request, WriteOp},
    error::{Error, ErrorKind},
    manifest::Edit,
    memtable::Stored,
    point::Metadata,
    quota::LetIn,
    settings::Settings,
};
use akidb_vfs::{
    SystemRandom,
    sim::{SimClock, SimFs},
    thread::spawn,
};
use akidb_wal::{Answer, Commit, Lsn, Sink, WalError};
use std::{
    future::poll_fn,
    path::Path,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Waker},
    time::Duration,
};

fn core() -> Arc<DbCore> {
    let parts = Components {
        fs: Arc::new(SimFs::new(1)),
        clock: Arc::new(SimClock::new()),
        random: Arc::new(SystemRandom::from_seed(1)),
        store: None,
        from_bucket: false,
        inline: true,
    };
    open(Path::new("/data/db"), Settings::default(), parts).expect("a new database")
}

fn commit_something(core: &DbCore) -> Result<(), ErrorKind> {
    let edit = Edit { next_file: core.next_file() + 1, ..Edit::default() };
    core.commit_manifest(edit).map_err(|error| error.kind())
}

#[test]
fn no_record_follows_one_of_which_nobody_knows_whether_it_is_there() {
    let core = core();
    assert_eq!(commit_something(&core), Ok(()));
    core.shared.poison(Error::bug("a record that may be there"));
    assert_eq!(commit_something(&core), Err(ErrorKind::Reopen));
}

#[test]
fn no_record_is_written_once_the_directory_may_be_anothers() {
    let core = core();
    core.close().expect("it closes");
    assert_eq!(commit_something(&core), Err(ErrorKind::Closed));
}

/// A sink with a group of two inserts of the same row, and their answers to be.
fn twice_inserted(core: &DbCore) -> (CommitSink, Answer<Done>, Answer<Done>) {
    let docs =
        core.create_collection("docs", Schema::new(1, Metric::L2), None).expect("a new name");
    let mut sink = CommitSink::new(core.shared.clone());
    let mut insert = |docs: &Arc<CollectionCore>| {
        let (reply, answer) = akidb_wal::reply();
        let row = NewRow {
            id: 1.into(),
            vector: Stored::from(Box::from([1.0])),
            inv_norm: 1.0,
            metadata: Stored::from(Box::from(*b"{}")),
            parsed: Metadata::new(),
        };
        let op = WriteOp::Insert { rows: vec![row], payload: vec![0; 8] };
        let collection = docs.clone();
        let (durability, let_in) = (Durability::Sync, LetIn::default());
        sink.stage(Lsn::new(1), Request { collection, op, durability, reply, let_in });
        answer
    };
    let (first, second) = (insert(&docs), insert(&docs));
    (sink, first, second)
}

/// The answer, if it is there.
fn answered(answer: &mut Answer<Done>) -> Option<Result<u64, ErrorKind>> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => None,
        Poll::Ready(done) => {
            let result = done.expect("somebody answers").result;
            Some(result.map(|receipt| receipt.lsn).map_err(|error| error.kind()))
        }
    }
}

#[test]
fn a_refusal_that_rests_on_a_write_of_the_same_group_comes_when_that_is_visible() {
    let core = core();
    let (mut sink, mut first, mut second) = twice_inserted(&core);
    assert_eq!(answered(&mut second), None, "nobody can see yet what refuses it");
    let lsn = Lsn::new(1);
    sink.committed(&Commit { first: lsn, last: lsn, durable_upto: lsn, synced: true });
    assert_eq!(answered(&mut first), Some(Ok(1)));
    assert_eq!(answered(&mut second), Some(Err(ErrorKind::AlreadyExists)));
}

#[test]
fn nothing_is_refused_because_of_a_write_that_failed() {
    let core = core();
    let (mut sink, mut first, mut second) = twice_inserted(&core);
    sink.failed(&Arc::new(WalError::Closed));
    assert_eq!(answered(&mut first), Some(Err(ErrorKind::Closed)));
    assert_eq!(answered(&mut second), Some(Err(ErrorKind::Closed)));
}

#[test]
fn a_store_that_parks_the_thread_while_it_is_polled_loses_no_wake_up() {
    // As one does that waits for a channel or for another client: its wait takes the token of a wake-up that
    // came before.
    let mut polls = 0;
    let call = poll_fn(move |context: &mut Context<'_>| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        let (answer, other) = mpsc::channel();
        let late = || (0..1_000).for_each(|_| std::thread::yield_now());
        let client = spawn("client", move || {
            late();
            answer.send(()).expect("somebody waits");
        });
        other.recv().expect("an answer");
        client.expect("a thread").join().expect("no panic");
        Poll::Pending
    });
    let (reply, ended) = mpsc::channel();
    let waits = spawn("call", move || {
        core().block_on(call);
        reply.send(()).expect("somebody waits");
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("it is polled again");
    waits.expect("a thread").join().expect("no panic");
}
