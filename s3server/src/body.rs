//! Bodies of answers: whole, cut off, or late.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;

/// A body that can end early or begin late.
pub(crate) struct Out {
    inner: s3s::Body,
    /// Bytes until the connection breaks.
    left: Option<u64>,
    late: Option<Pin<Box<Sleep>>>,
}

impl Out {
    pub(crate) fn whole(inner: s3s::Body) -> Self {
        Self { inner, left: None, late: None }
    }

    /// Ends after half of its length.
    pub(crate) fn cut(inner: s3s::Body) -> Self {
        let half = inner.size_hint().lower() / 2;
        Self { inner, left: Some(half), late: None }
    }

    pub(crate) fn late(inner: s3s::Body, wait: Duration) -> Self {
        Self { inner, left: None, late: Some(Box::pin(tokio::time::sleep(wait))) }
    }
}

impl Body for Out {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(late) = &mut self.late {
            ready!(late.as_mut().poll(context));
            self.late = None;
        }
        if self.left == Some(0) {
            return Poll::Ready(Some(Err("cut off on request".into())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let (Some(left), Some(Ok(whole))) = (self.left, &frame) else {
            return Poll::Ready(frame);
        };
        let Some(data) = whole.data_ref() else { return Poll::Ready(frame) };
        let kept = data.slice(..usize::try_from(left).unwrap_or(usize::MAX).min(data.len()));
        self.left = Some(left - kept.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(kept))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && self.late.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
