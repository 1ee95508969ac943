//! Several futures polled side by side on one thread, for stores and checks that have a few
//! requests under way at once. Not for hundreds: each wake-up polls all that are not done.

use crate::store::BoxFuture;
use std::{future::poll_fn, task::Poll};

/// The results, in the order of the futures.
pub(crate) async fn all<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(Some).collect();
    let mut results: Vec<Option<T>> = running.iter().map(|_| None).collect();
    poll_fn(move |context| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            let Some(one) = future else { continue };
            if let Poll::Ready(value) = one.as_mut().poll(context) {
                *result = Some(value);
                *future = None;
            }
        }
        if running.iter().any(Option::is_some) {
            return Poll::Pending;
        }
        Poll::Ready(results.drain(..).flatten().collect())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    #[test]
    fn results_come_in_the_order_of_the_futures_whoever_ends_first() {
        let slow = async {
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls < 3 { Poll::Pending } else { Poll::Ready(1) }
            })
            .await
        };
        let futures: Vec<BoxFuture<'_, i32>> = vec![Box::pin(slow), Box::pin(ready(2))];
        assert_eq!(futures_lite::future::block_on(all(futures)), [1, 2]);
        assert!(futures_lite::future::block_on(all(Vec::<BoxFuture<'_, ()>>::new())).is_empty());
    }
}
