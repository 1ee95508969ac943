//! A promise and its ticket: whoever waits is woken, and learns what was answered.

use crate::{block_on, spawn, two_threads};
use akidb_wal::{WalError, ticket};

#[test]
fn a_blocked_waiter_gets_the_answer() {
    two_threads(|| {
        let (promise, ticket) = ticket();
        let waiter = spawn(move || assert_eq!(ticket.wait().unwrap(), 5));
        promise.answer(Ok(5));
        waiter.join().unwrap();
    });
}

#[test]
fn a_task_gets_the_answer() {
    two_threads(|| {
        let (promise, ticket) = ticket();
        let waiter = spawn(move || assert_eq!(block_on(ticket).unwrap(), 5));
        promise.answer(Ok(5));
        waiter.join().unwrap();
    });
}

#[test]
fn a_promise_that_is_dropped_leaves_nobody_waiting() {
    two_threads(|| {
        let (promise, ticket) = ticket::<()>();
        let waiter = spawn(move || {
            let answer = ticket.wait().unwrap_err();
            assert!(matches!(*answer, WalError::Closed));
        });
        drop(promise);
        waiter.join().unwrap();
    });
}
