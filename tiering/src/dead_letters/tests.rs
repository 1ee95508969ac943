//! The queue of dead letters as a specification.

use super::*;
use crate::records::tests::{check_golden, crash_at_every_call, example_in};
use akidb_vfs::{
    FsOp, SystemRandom, read_file,
    sim::{Fault, FaultKind, SimClock, SimFs},
};
use futures_lite::future::block_on;
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

const PATH: &str = "/dead-letters";

fn open_at(fs: SimFs, clock: SimClock, max: usize) -> Result<DeadLetterQueue, RecordsError> {
    let random = Arc::new(SystemRandom::from_seed(9));
    DeadLetterQueue::open(Arc::new(fs), random, Arc::new(clock), Path::new(PATH), max)
}

fn open(fs: SimFs) -> Result<DeadLetterQueue, RecordsError> {
    open_at(fs, SimClock::new(), 4)
}

fn records(result: Result<u64, DeadLetterError>) -> Result<(), RecordsError> {
    match result {
        Ok(_) => Ok(()),
        Err(DeadLetterError::Records(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Drop(u64),
    Settle(u8),
    Retry(u64, bool),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..6).prop_map(Step::Add),
        1 => (0_u64..8).prop_map(Step::Drop),
        1 => (0_u8..6).prop_map(Step::Settle),
        2 => (0_u64..8, any::<bool>()).prop_map(|(id, works)| Step::Retry(id, works)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Against a map from names to numbers and counts.
    #[test]
    fn every_letter_is_there_until_it_is_settled_and_no_more_than_fit(steps in steps()) {
        let fs = SimFs::new(1);
        let mut queue = open(fs.clone()).unwrap();
        let mut expected: BTreeMap<u64, (String, u32)> = BTreeMap::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Add(name) => {
                    let name = format!("n{name}");
                    let known = expected.iter_mut().find(|(_, (known, _))| *known == name);
                    let added = queue.add(&name, b"payload", "error");
                    if let Some((id, (_, failures))) = known {
                        *failures += 1;
                        prop_assert_eq!(added.unwrap(), *id);
                    } else if expected.len() == 4 {
                        let full = matches!(added, Err(DeadLetterError::Full { max: 4 }));
                        prop_assert!(full);
                    } else {
                        prop_assert_eq!(added.unwrap(), next);
                        expected.insert(next, (name, 1));
                        next += 1;
                    }
                }
                Step::Drop(id) => {
                    let there = expected.remove(&id).is_some();
                    prop_assert_eq!(queue.drop_letter(id).is_ok(), there);
                }
                Step::Settle(name) => {
                    queue.settle(&format!("n{name}")).unwrap();
                    expected.retain(|_, (known, _)| *known != format!("n{name}"));
                }
                Step::Retry(id, works) => {
                    let attempt = |_| async move { if works { Ok(()) } else { Err("again") } };
                    match block_on(queue.retry(id, attempt)) {
                        Ok(Retried::Done(())) => {
                            prop_assert!(works);
                            prop_assert!(expected.remove(&id).is_some());
                        }
                        Ok(Retried::FailedAgain(letter)) => {
                            prop_assert!(!works);
                            let failures = &mut expected.get_mut(&id).unwrap().1;
                            *failures += 1;
                            prop_assert_eq!((letter.failures, &*letter.error), (*failures, "again"));
                        }
                        Err(_) => prop_assert!(!expected.contains_key(&id)),
                    }
                }
                Step::Reopen => queue = open(fs.clone()).unwrap(),
            }
            let found: BTreeMap<_, _> =
                queue.list().into_iter().map(|l| (l.id, (l.name, l.failures))).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!((queue.len(), queue.is_empty()), (expected.len(), expected.is_empty()));
        }
    }

    #[test]
    fn a_record_that_lies_with_right_checksums_is_refused(
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Some(letter) = decode(&body) {
            prop_assert_eq!(encode(&letter), body);
        }
    }
}

#[test]
fn a_letter_says_when_it_failed_first_and_last_and_why() {
    let (fs, clock) = (SimFs::new(1), SimClock::new());
    let queue = open_at(fs, clock.clone(), 4).unwrap();
    let id = queue.add("a", b"1", &"x".repeat(2_000)).unwrap();
    let first = clock.unix_ms();
    clock.advance(Duration::from_secs(60));
    queue.add("a", b"2", "é").unwrap();
    let letter = queue.get(id).unwrap();
    assert_eq!((letter.first_unix_ms, letter.last_unix_ms), (first, first + 60_000));
    assert_eq!((&*letter.payload, &*letter.error, letter.failures), (&b"2"[..], "é", 2));
    queue.add("a", b"2", &"é".repeat(1_000)).unwrap();
    assert_eq!(queue.get(id).unwrap().error.len(), ERROR_BYTES_MAX, "cut, between characters");
}

#[test]
fn the_power_may_go_at_any_call() {
    crash_at_every_call(
        |fs| assert!(open(fs).unwrap().add("a", b"x", "down").is_ok()),
        |fs| records(open(fs)?.add("b", b"y", "down")),
        |fs| open(fs).unwrap().list(),
    );
}

#[test]
fn a_full_disk_leaves_the_queue_as_it_was() {
    let fs = SimFs::new(1);
    let queue = open(fs.clone()).unwrap();
    queue.add("a", b"x", "down").unwrap();
    let before = queue.list();
    fs.inject(Fault::new(FaultKind::NoSpace).on(FsOp::Write));
    assert!(queue.add("b", b"y", "down").is_err());
    assert_eq!(queue.list(), before);
    assert_eq!(open(fs).unwrap().list(), before);
}

#[test]
fn a_damaged_file_is_refused_wherever_the_damage_is() {
    let fs = SimFs::new(1);
    open(fs.clone()).unwrap().add("a", b"x", "down").unwrap();
    let len = read_file(&fs, Path::new(PATH)).unwrap().len() as u64;
    for at in 0..len {
        fs.corrupt(Path::new(PATH), at, 0x40).unwrap();
        let error = open(fs.clone()).unwrap_err();
        let named =
            matches!(&error, RecordsError::Corruption { file, .. } if file == Path::new(PATH));
        assert!(named || matches!(error, RecordsError::Newer { .. }), "byte {at}: {error}");
        fs.corrupt(Path::new(PATH), at, 0x40).unwrap();
    }
    assert!(open(fs).is_ok());
}

#[test]
fn letters_that_contradict_each_other_are_refused() {
    let written = |next, letters: &[(u64, &str)]| {
        let fs = SimFs::new(1);
        let letter = |(id, name): &(u64, &str)| {
            let (name, payload, error) = (name.to_string(), vec![], String::new());
            let (failures, first_unix_ms, last_unix_ms) = (1, 0, 0);
            let id = *id;
            encode(&DeadLetter { id, name, payload, error, failures, first_unix_ms, last_unix_ms })
        };
        let records = Records { next, bodies: letters.iter().map(letter).collect() };
        let file = RecordFile { path: PATH.into(), magic: MAGIC };
        file.write(&fs, &SystemRandom::from_seed(1), &records).unwrap();
        open(fs)
    };
    assert!(written(5, &[(1, "a"), (4, "b")]).is_ok());
    for (next, letters) in [
        (5, &[(4, "a"), (1, "b")][..]),
        (5, &[(1, "a"), (1, "b")]),
        (5, &[(1, "a"), (2, "a")]),
        (4, &[(4, "a")]),
    ] {
        let error = written(next, letters).unwrap_err();
        assert!(matches!(error, RecordsError::Corruption { .. }), "{error}");
    }
    let last = written(u64::MAX, &[(1, "a")]).unwrap();
    assert!(matches!(last.add("b", b"", "down"), Err(DeadLetterError::Full { .. })));
    assert!(last.add("a", b"", "down").is_ok());
}

#[test]
fn the_golden_file_opens_and_is_the_example_of_its_page() {
    let (fs, clock) = (SimFs::new(1), SimClock::new());
    let queue = open_at(fs.clone(), clock.clone(), 4).unwrap();
    queue.add("demote docs", b"collection 7", "object c7/rows: refused").unwrap();
    queue.add("demote logs", &[], "down").unwrap();
    clock.advance(Duration::from_secs(1));
    queue.add("demote logs", &[1, 2], "still down").unwrap();
    let golden = check_golden("dead-letters-v1.bin", &read_file(&fs, Path::new(PATH)).unwrap());
    assert_eq!(example_in("dead-letters.md"), golden);
    let again = SimFs::new(1);
    akidb_vfs::write_file_durably(&again, Path::new(PATH), &golden).unwrap();
    assert_eq!(open(again).unwrap().list(), queue.list());
}
