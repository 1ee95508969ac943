//! An answer that arrives later: a [`Promise`] on the side that works, a [`Ticket`] on the side
//! that waits, by `.await` on any executor or by blocking. Needs no runtime, and unlike a
//! runtime's channels it may be waited for anywhere, inside a runtime too. A promise dropped
//! without an answer answers [`WalError::Closed`], so nobody waits for ever.

use crate::{
    WalError,
    sync::{Condvar, Mutex},
};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The answer to give.
type Answer<T> = Result<T, Arc<WalError>>;

struct Shared<T> {
    slot: Mutex<Slot<T>>,
    answered: Condvar,
}

enum Slot<T> {
    Waiting(Option<Waker>),
    Answered(Answer<T>),
    Taken,
}

/// The side that answers, once.
pub struct Promise<T> {
    /// `None` once answered.
    shared: Option<Arc<Shared<T>>>,
}

/// The side that waits. Dropping it changes nothing for anybody else.
#[must_use = "a ticket that nobody waits for says nothing about the work"]
pub struct Ticket<T> {
    shared: Arc<Shared<T>>,
}

/// A connected pair.
///
/// ```
/// let (promise, ticket) = akidb_wal::ticket();
/// promise.answer(Ok(7));
/// assert_eq!(ticket.wait().unwrap(), 7);
/// ```
pub fn ticket<T>() -> (Promise<T>, Ticket<T>) {
    let slot = Mutex::new(Slot::Waiting(None));
    let shared = Arc::new(Shared { slot, answered: Condvar::new() });
    (Promise { shared: Some(Arc::clone(&shared)) }, Ticket { shared })
}

impl<T> Promise<T> {
    /// Gives the answer and wakes whoever waits.
    pub fn answer(mut self, answer: Result<T, Arc<WalError>>) {
        if let Some(shared) = self.shared.take() {
            shared.answer(answer);
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.answer(Err(Arc::new(WalError::Closed)));
        }
    }
}

impl<T> Shared<T> {
    fn answer(&self, answer: Answer<T>) {
        let before = std::mem::replace(&mut *self.slot.lock(), Slot::Answered(answer));
        self.answered.notify_all();
        // Outside the lock: a waker may run code that polls the ticket at once.
        if let Slot::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T> Slot<T> {
    /// The answer, if it is there.
    fn take(&mut self) -> Option<Answer<T>> {
        match std::mem::replace(self, Self::Taken) {
            Self::Answered(answer) => Some(answer),
            waiting @ Self::Waiting(_) => {
                *self = waiting;
                None
            }
            Self::Taken => Some(Err(Arc::new(WalError::Closed))),
        }
    }
}

impl<T> Ticket<T> {
    /// Blocks this thread until the answer is there. Works inside a runtime too, where it holds up
    /// that runtime's thread like any other blocking call.
    ///
    /// # Errors
    /// Whatever was answered; [`WalError::Closed`] if nobody is left to answer.
    pub fn wait(self) -> Result<T, Arc<WalError>> {
        let mut slot = self.shared.slot.lock();
        loop {
            if let Some(answer) = slot.take() {
                return answer;
            }
            self.shared.answered.wait(&mut slot);
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T, Arc<WalError>>;

    /// Ready once; polled again after that it says [`WalError::Closed`].
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.shared.slot.lock();
        if let Some(answer) = slot.take() {
            return Poll::Ready(answer);
        }
        *slot = Slot::Waiting(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_a_waiter_that_came_first() {
        let (promise, ticket) = ticket();
        let waiter = akidb_vfs::thread::spawn("waiter", move || {
            assert_eq!(ticket.wait().unwrap(), 5);
        });
        promise.answer(Ok(5));
        waiter.unwrap().join().unwrap();
    }

    #[test]
    fn a_dropped_promise_answers_closed() {
        let (promise, ticket) = ticket::<()>();
        drop(promise);
        assert!(matches!(&*ticket.wait().unwrap_err(), WalError::Closed));
    }

    #[test]
    fn a_ticket_can_be_awaited() {
        let (promise, ticket) = ticket();
        let work = akidb_vfs::thread::spawn("answer", move || promise.answer(Ok(1)));
        assert_eq!(futures_lite::future::block_on(ticket).unwrap(), 1);
        work.unwrap().join().unwrap();
    }
}
