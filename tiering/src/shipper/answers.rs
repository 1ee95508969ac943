//! The answer to one item: given once, waited for by `.await` on any executor. A side that goes away
//! does not keep the other waiting.

use super::{ShipError, Shipped};
use parking_lot::Mutex;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

type Given = Result<Shipped, ShipError>;

#[derive(Debug, Default)]
struct Slot {
    given: Option<Given>,
    waker: Option<Waker>,
}

/// Gives the answer; dropped without one, it says that nothing is shipped any more.
#[derive(Debug)]
pub(super) struct Answerer(Option<Arc<Mutex<Slot>>>);

/// Where an item lies, once it is known. To be waited for.
#[derive(Debug)]
#[must_use = "whether the item was shipped is in here"]
pub struct Answer(Arc<Mutex<Slot>>);

pub(super) fn answer() -> (Answerer, Answer) {
    let slot = Arc::new(Mutex::new(Slot::default()));
    (Answerer(Some(slot.clone())), Answer(slot))
}

impl Answerer {
    pub(super) fn give(mut self, given: Given) {
        self.put(given);
    }

    fn put(&mut self, given: Given) {
        let Some(slot) = self.0.take() else { return };
        let waker = {
            let mut slot = slot.lock();
            slot.given = Some(given);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.put(Err(ShipError::Closed));
    }
}

impl Future for Answer {
    type Output = Given;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Given> {
        let mut slot = self.0.lock();
        match slot.given.take() {
            Some(given) => Poll::Ready(given),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
