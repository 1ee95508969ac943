//! Replies to a group: the log's thread wakes the first, and each that wakes wakes the next, so a
//! wake-up can be lost in more places than one.

use crate::{block_on, more_threads, spawn, two_threads};
use akidb_wal::{Wakes, reply};
use loom::thread::JoinHandle;

fn join(waiters: Vec<JoinHandle<()>>) {
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

#[test]
fn a_reply_by_itself_wakes_its_waiter() {
    two_threads(|| {
        let (reply, answer) = reply();
        let waiter = spawn(move || assert_eq!(answer.wait(), Some(1)));
        reply.answer(1);
        waiter.join().unwrap();
    });
}

#[test]
fn a_reply_that_is_dropped_wakes_its_waiter() {
    two_threads(|| {
        let (reply, answer) = reply::<()>();
        let waiter = spawn(move || assert_eq!(answer.wait(), None));
        drop(reply);
        waiter.join().unwrap();
    });
}

#[test]
fn a_task_in_a_group_is_woken() {
    two_threads(|| {
        let (reply, answer) = reply();
        let waiter = spawn(move || assert_eq!(block_on(answer), Some(1)));
        let mut wakes = Wakes::new();
        reply.settle(1, &mut wakes);
        wakes.go();
        waiter.join().unwrap();
    });
}

/// As many as one thread wakes at once, and one more who depends on another waiter.
#[test]
fn every_thread_of_a_group_is_woken() {
    more_threads(|| {
        let mut replies = Vec::new();
        let mut waiters = Vec::new();
        for n in 0..3 {
            let (reply, answer) = reply();
            replies.push(reply);
            waiters.push(spawn(move || assert_eq!(answer.wait(), Some(n))));
        }
        let mut wakes = Wakes::new();
        (0..).zip(replies).for_each(|(n, reply)| reply.settle(n, &mut wakes));
        wakes.go();
        join(waiters);
    });
}

/// Threads that something else woke take their answers before the group's wake-ups begin. Theirs
/// are given out all the same, and must not be missing for those who still sleep.
#[test]
fn who_leaves_early_takes_nobodys_wake_up() {
    more_threads(|| {
        let mut replies = Vec::new();
        let mut waiters = Vec::new();
        for n in 0..3 {
            let (reply, answer) = reply();
            replies.push(reply);
            waiters.push(spawn(move || assert_eq!(answer.wait(), Some(n))));
        }
        let mut wakes = Wakes::new();
        (0..).zip(replies).for_each(|(n, reply)| reply.settle(n, &mut wakes));
        waiters.iter().skip(1).for_each(|waiter| waiter.thread().unpark());
        wakes.go();
        join(waiters);
    });
}

#[test]
fn wakes_that_are_dropped_wake_all_the_same() {
    two_threads(|| {
        let (reply, answer) = reply();
        let waiter = spawn(move || assert_eq!(answer.wait(), Some(1)));
        let mut wakes = Wakes::new();
        reply.settle(1, &mut wakes);
        drop(wakes);
        waiter.join().unwrap();
    });
}
