//! Every frame of a file, good or bad, for people and tools. Unlike a scan it goes on after a bad
//! place and gives no verdict. Changes nothing.

#![deny(clippy::indexing_slicing)]

use super::{
    FramedFile,
    walk::{Step, Walk},
};
use crate::{FrameDefect, FrameKind};

/// One frame, or one bad place, of a framed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What is there.
    pub status: FrameStatus,
}

/// What an inspection found at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStatus {
    /// A good frame.
    Good {
        /// Data or seal.
        kind: FrameKind,
        /// Its number; a seal repeats that of the data frame before it.
        seq: u64,
        /// The bytes of its payload.
        payload_len: u32,
        /// The offset up to which the file was durable when this frame was written.
        durable_end: u64,
    },
    /// A bad place that reaches up to the next frame, or to the end of the file.
    Bad {
        /// What is wrong at its beginning.
        defect: FrameDefect,
        /// How many bytes it covers.
        bytes: u64,
    },
}

impl FramedFile {
    /// All frames in file order, with the bad places between them; the unused, all-zero end is
    /// left out.
    pub fn inspect(&self) -> Vec<FrameInfo> {
        let mut walk = Walk::new(&self.header, &self.bytes);
        let mut found = Vec::new();
        loop {
            let offset = walk.at.offset;
            match walk.step() {
                Step::Frame(frame) => {
                    let header = frame.header;
                    let status = FrameStatus::Good {
                        kind: header.kind,
                        seq: header.seq,
                        payload_len: header.payload_len,
                        durable_end: header.durable_end,
                    };
                    found.push(FrameInfo { offset, status });
                }
                Step::End => return found,
                Step::Bad(defect) => {
                    let next = walk.find_header(offset.saturating_add(1), |_| true);
                    let end = next.as_ref().map_or(self.bytes.len() as u64, |(at, _)| *at);
                    let status = FrameStatus::Bad { defect, bytes: end.saturating_sub(offset) };
                    found.push(FrameInfo { offset, status });
                    match next {
                        Some((at, header)) => walk.resume(at, &header),
                        None => return found,
                    }
                }
            }
        }
    }
}
