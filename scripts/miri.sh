#!/usr/bin/env bash
# Runs the byte codecs of every file format under Miri, which finds undefined behaviour, bad
# alignment and reads outside a buffer in our code and in what it calls (bytemuck, crc32fast,
# roaring). Needs a nightly toolchain with the component miri:
#   rustup toolchain install nightly --component miri,rust-src
# Not run, because Miri cannot: the memory map of a file (vfs/src/real.rs), system calls of
# io_uring, and the distance kernels, zstd and snappy, which are C.
set -euo pipefail
cd "$(dirname "$0")/.."

# The tests that change or cut every byte take hours here, and Miri has no vectored writes to real
# files: those run natively.
# Property tests with few cases each: Miri is some hundred times slower.
export PROPTEST_CASES="${PROPTEST_CASES:-3}" MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"

say() { printf '\n== %s\n' "$*"; }

say "the log's frames, headers, queue and tickets"
cargo +nightly miri test -p akidb-wal --lib

say "records, ids, manifest, tombstones, field indexes, segment blocks"
cargo +nightly miri test -p akidb --lib -- \
    commit::payload cursor id:: manifest::page tombstones field_index segment::format \
    segment::items segment::directory --skip every_ --skip on_a_real_disk
