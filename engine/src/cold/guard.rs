//! Containment of the Parquet reader, which treats panics and huge allocations on hostile files as
//! mere bugs: limits are checked before it runs, and a panic inside it becomes an error.
//!
//! Called by the decoder of cold objects and by the import of foreign files.

#![deny(clippy::indexing_slicing)]

use parquet::errors::ParquetError;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The end of every Parquet file: the footer's length, then the magic.
pub(crate) const TAIL_BYTES: usize = 8;
/// The shortest possible file: magic, footer length, magic.
const FILE_BYTES_MIN: u64 = 12;
/// The longest footer that is read.
const FOOTER_BYTES_MAX: u32 = 16 << 20;
/// The most row groups of a file.
pub(crate) const ROW_GROUPS_MAX: usize = 100_000;

/// Checks the end of a file of `len` bytes before its footer is allocated and parsed. Returns how long
/// the footer is, this end included; the error says what is wrong.
pub(crate) fn check_tail(tail: &[u8], len: u64) -> Result<u64, String> {
    let (footer, magic) = match tail.split_first_chunk::<4>() {
        Some((footer, magic)) if len >= FILE_BYTES_MIN => (u32::from_le_bytes(*footer), magic),
        _ => return Err(format!("{len} bytes are too few for a Parquet file")),
    };
    if magic != b"PAR1" {
        return Err("it does not end as a Parquet file does; is it cut short?".to_owned());
    }
    if footer > FOOTER_BYTES_MAX || u64::from(footer) > len - FILE_BYTES_MIN {
        return Err(format!("a footer of {footer} bytes is not possible in {len} bytes"));
    }
    Ok(u64::from(footer) + TAIL_BYTES as u64)
}

/// Runs a call into the Parquet reader; an error or panic comes back as text.
pub(crate) fn contain<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String>
where
    E: Into<ParquetError>,
{
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into().to_string()),
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(format!("the Parquet reader panicked: {}", text.unwrap_or("no message")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_or_an_error_inside_becomes_text() {
        let panicked = contain(|| -> Result<(), ParquetError> { panic!("index {}", 7) });
        assert!(panicked.is_err_and(|text| text.contains("index 7")));
        let failed = contain(|| Err::<(), _>(ParquetError::General("bad page".to_owned())));
        assert!(failed.is_err_and(|text| text.contains("bad page")));
    }

    #[test]
    fn a_tail_is_checked_before_the_footer_is_read() {
        assert_eq!(check_tail(b"\x10\0\0\0PAR1", 100), Ok(24));
        assert!(check_tail(b"\x10\0\0\0PAR1", 20).is_err(), "longer than the file");
        assert!(check_tail(b"\xff\xff\xff\xffPAR1", u64::MAX).is_err(), "above the limit");
        assert!(check_tail(b"\x10\0\0\0PARE", 100).is_err(), "another magic");
        assert!(check_tail(b"", 0).is_err());
        assert!(check_tail(b"\0\0\0\0PAR1", 8).is_err());
    }
}
