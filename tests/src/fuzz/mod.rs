//! What the fuzzer runs, as plain functions: bytes in, a panic if something is wrong.
//!
//! Owns the targets, the repair of checksums (`seal.rs`) that lets changed bytes reach the decoders
//! behind them, and the inputs that a fuzzing run begins with (`seeds`). The programs in
//! `fuzz/targets` hand the fuzzer's bytes to [`run`]; the test `fuzz_inputs` does the same with the
//! inputs that are checked in, on stable Rust. Must never need nightly itself, and never answer
//! differently for the same bytes.

mod cells;
mod files;
mod input;
mod records;
mod seal;
mod seeds;
mod values;

/// One thing that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, of the program in `fuzz/targets` and of the folders of its inputs.
    pub name: &'static str,
    /// What must hold.
    pub promise: &'static str,
    /// Plays one input; tells whether the bytes were taken, rather than refused.
    pub run: fn(&[u8]) -> bool,
    /// The first inputs, each with a name.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target {
        name: "framed_file",
        promise: "frames: a scan and an inspection agree, whatever the file",
        run: files::framed_file,
        seeds: seeds::framed_file,
    },
    Target {
        name: "log_replay",
        promise: "a directory of WAL files is refused unchanged, or replayed and written on",
        run: files::log_replay,
        seeds: seeds::log_replay,
    },
    Target {
        name: "manifest",
        promise: "manifest records: what is read survives being carried over",
        run: values::manifest,
        seeds: seeds::manifest,
    },
    Target {
        name: "bucket_manifest",
        promise: "manifests of a bucket: what is read is written and read the same",
        run: files::bucket_manifest,
        seeds: seeds::bucket_manifest,
    },
    Target {
        name: "log_record",
        promise: "bodies of log frames: one byte form each",
        run: values::log_record,
        seeds: seeds::log_record,
    },
    Target {
        name: "segment",
        promise: "segment files with any header, directory and blocks",
        run: files::segment,
        seeds: seeds::segment,
    },
    Target {
        name: "segment_block",
        promise: "segment files with a good directory and any block",
        run: files::segment_block,
        seeds: seeds::segment_block,
    },
    Target {
        name: "field_index",
        promise: "field index blocks: what passes the full check answers every question",
        run: values::field_index,
        seeds: seeds::field_index,
    },
    Target {
        name: "tombstones",
        promise: "tombstone files: what is read is written and read the same",
        run: files::tombstones,
        seeds: seeds::tombstones,
    },
    Target {
        name: "records",
        promise: "files of records: what is read is written and read the same",
        run: records::records,
        seeds: seeds::records,
    },
    Target {
        name: "cold",
        promise: "cold Parquet objects: rows come back to the bit, or not at all",
        run: files::cold,
        seeds: seeds::cold,
    },
    Target {
        name: "import",
        promise: "foreign Parquet files: whole rows of one dimension, or an error",
        run: files::import,
        seeds: seeds::import,
    },
    Target {
        name: "codebook",
        promise: "codebooks: what is read is written the same, and every cell can be visited",
        run: cells::codebook,
        seeds: seeds::codebook,
    },
    Target {
        name: "lists",
        promise: "lists of codes: every row of every cell is scanned and copied, or none",
        run: cells::lists,
        seeds: seeds::lists,
    },
    Target {
        name: "filter",
        promise: "filters as JSON: read back the same, answered the same with any index",
        run: values::filter,
        seeds: seeds::filter,
    },
    Target {
        name: "operations",
        promise: "programs of every verb with crashes and faults, against the oracle",
        run: values::operations,
        seeds: seeds::operations,
    },
];

/// Plays one input; tells whether the bytes were taken, rather than refused.
///
/// # Panics
/// If a promise is broken, or there is no such target.
pub fn run(target: &str, data: &[u8]) -> bool {
    let target = TARGETS.iter().find(|known| known.name == target);
    (target.expect("a target of the list").run)(data)
}

/// What a fuzzing program does first. Panics of the Parquet reader are contained by the engine and
/// become errors; the fuzzer's runtime would end the process at the first of them. Every other
/// panic still does.
pub fn start() {
    let fatal = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("", std::panic::Location::file);
        let contained = ["/parquet-", "/arrow-", "/bytes-", "/snap-", "/zstd"];
        if !contained.iter().any(|part| place.contains(part)) {
            fatal(panic);
        }
    }));
}
