//! The inputs that a fuzzing run begins with, made from the golden files, so that the fuzzer need
//! not find out by chance what a good file looks like. `AKIDB_BLESS=1 cargo test -p akidb-tests
//! --test fuzz_inputs` writes them to `fuzz/corpus`.

use super::input::{chunk, u16_at, u32_at, u64_at};
use akidb::testing;
use akidb_index::{
    Metric,
    rabitq::{Bits, Codec, pack_block},
};
use akidb_vfs::sim::SimFs;
use akidb_vfs::{Fs, write_file_durably};
use akidb_wal::{
    WalError,
    framed::{FileKind, FramedFile},
};
use bytes::Bytes;
use std::path::Path;

type Seeds = Vec<(&'static str, Vec<u8>)>;

const WAL: &[u8] = include_bytes!("../../../wal/tests/golden/v1.wal");
const MANIFEST: &[u8] = include_bytes!("../../../engine/tests/golden/manifest-v1.bin");
const BUCKET: &[u8] = include_bytes!("../../../engine/tests/golden/bucket-manifest-v1.bin");
const RECORD: &[u8] = include_bytes!("../../../engine/tests/golden/log-record-v1.bin");
const SEGMENT: &[u8] = include_bytes!("../../../engine/tests/golden/segment-v1.seg");
const CELLS: &[u8] = include_bytes!("../../../engine/tests/golden/segment-v2.seg");
const TOMBSTONES: &[u8] = include_bytes!("../../../engine/tests/golden/tombstones-v1.tmb");
const UPLOADS: &[u8] = include_bytes!("../../../tiering/tests/golden/uploads-v1.bin");
const DEAD_LETTERS: &[u8] = include_bytes!("../../../tiering/tests/golden/dead-letters-v1.bin");
const KEYWORDS: &[u8] = include_bytes!("../../../engine/tests/golden/field-index-keyword-v1.bin");
const FLOATS: &[u8] = include_bytes!("../../../engine/tests/golden/field-index-float-v1.bin");
const COLD: &[u8] = include_bytes!("../../../engine/tests/golden/cold_v1.parquet");
const CODEBOOK: &[u8] = include_bytes!("../../../index/tests/golden/codebook-v1.bin");

pub(super) fn framed_file() -> Seeds {
    let with = |control: &[u8]| [control, WAL].concat();
    vec![("golden", with(&[0, 0])), ("numbered", with(&[1, 0])), ("torn", with(&[1, 2]))]
}

pub(super) fn log_replay() -> Seeds {
    let file = |number| [&[number][..], &chunk(WAL)].concat();
    vec![
        ("golden", [&[0, 0, 0, 0][..], &file(1)].concat()),
        ("chain", [&[3, 0, 1, 1][..], &file(1), &file(2), &file(3)].concat()),
        ("torn", [&[3, 0x40, 0, 1][..], &file(1), &file(2)].concat()),
        ("empty", vec![0, 0, 0, 0]),
    ]
}

pub(super) fn manifest() -> Seeds {
    let (fs, path) = (SimFs::new(1), Path::new("/fuzz/file"));
    fs.create_dir_all(Path::new("/fuzz")).expect("an empty disk takes a directory");
    write_file_durably(&fs, path, MANIFEST).expect("the disk has room");
    let kind = FileKind { magic: *b"AKIDBMAN", version: 1, name: "manifest" };
    let mut bodies = Vec::new();
    let file = FramedFile::read(&fs, path, kind).expect("the golden file opens");
    let scan = file.scan(&mut |frame| {
        bodies.push(frame.payload.to_vec());
        Ok::<_, WalError>(())
    });
    scan.expect("the golden file is whole");
    vec![("golden", bodies.join(&b'\n')), ("first", bodies.remove(0))]
}

/// The golden object, and JSON with fewer and with more in it.
pub(super) fn bucket_manifest() -> Seeds {
    let with = |control: u8, bytes: &[u8]| [&[control][..], bytes].concat();
    let state = |contents: &str| {
        let json = format!(
            r#"{{"database":"00112233-4455-6677-8899-aabbccddeeff","version":{{"epoch":1,"writer":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","commit":1,"attempt":0}},"holder":"","creator":"","contents":{{{contents}}}}}"#
        );
        with(1, json.as_bytes())
    };
    let cold = r#""next_collection":3,"collections":{"2":{"id":2,"name":"docs","schema":{"dim":2,"metric":"dot","fields":[]},"flushed":9,"segments":[],"tombstones":null,"cold":[{"key":"a/b","len":1,"crc32":1,"rows":2,"min_lsn":1,"max_lsn":6}]}},"snapshots":{},"garbage":["a/c"],"partial":[2]"#;
    vec![
        ("golden", with(0, BUCKET)),
        ("golden-json", state(cold)),
        ("empty", state(r#""next_collection":0,"collections":{},"snapshots":{}"#)),
    ]
}

pub(super) fn log_record() -> Seeds {
    let mut delete = vec![1, 2, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    // The id of the first row of the golden record: its length, then its bytes.
    let len = usize::from(RECORD[16]);
    delete.extend_from_slice(&RECORD[16..=16 + len]);
    vec![("golden", RECORD.to_vec()), ("delete", delete)]
}

pub(super) fn segment() -> Seeds {
    vec![("golden", SEGMENT.to_vec()), ("cells", CELLS.to_vec())]
}

/// The golden segment's blocks in the order in which the target takes them.
pub(super) fn segment_block() -> Seeds {
    let footer = u64_at(SEGMENT, SEGMENT.len() - 32).and_then(|at| usize::try_from(at).ok());
    let footer = footer.expect("the golden file has a tail");
    let number = |at| usize::try_from(u32_at(SEGMENT, at).expect("within")).expect("small");
    let (rows, deletes, dim) = (number(footer), number(footer + 4), number(32));
    let mut found = Vec::new();
    let mut at = footer + 32;
    for _ in 0..number(footer + 24) {
        let kind = u16_at(SEGMENT, at).expect("within");
        let detail = u16_at(SEGMENT, at + 6).expect("within");
        let (start, len) = (number(at + 8), number(at + 16));
        found.push((kind, detail, &SEGMENT[start..start + len]));
        at += 36 + usize::from(u16_at(SEGMENT, at + 32).expect("within"));
        at += 4 * len.div_ceil(64 << 10);
    }
    let block = |kind| found.iter().find(|(k, ..)| *k == kind).map(|(.., bytes)| *bytes);
    let fields: Vec<_> = found.iter().filter(|(kind, ..)| *kind == 7).collect();
    let small = |number: usize| u8::try_from(number).expect("the golden file is small");
    let mut input = vec![small(rows), small(deletes), small(dim - 1), small(fields.len())];
    for kind in 1..=6 {
        let bytes = block(kind).expect("a segment has it");
        if matches!(kind, 3 | 6) {
            input.extend(chunk(bytes));
        } else {
            input.extend_from_slice(bytes);
        }
    }
    for (_, detail, bytes) in fields {
        input.push(small(usize::from(*detail) - 1));
        input.extend(chunk(bytes));
    }
    input.extend(chunk(block(8).expect("a segment has it")));
    vec![("golden", input), ("empty", vec![0; 4])]
}

pub(super) fn field_index() -> Seeds {
    let keywords = [&[4][..], b"noun", KEYWORDS].concat();
    let floats = [&[8][..], &0_i64.to_le_bytes(), FLOATS].concat();
    vec![("keyword", keywords), ("float", floats)]
}

pub(super) fn records() -> Seeds {
    vec![("golden-uploads", UPLOADS.to_vec()), ("golden-dead-letters", DEAD_LETTERS.to_vec())]
}

pub(super) fn tombstones() -> Seeds {
    vec![("golden", TOMBSTONES.to_vec())]
}

fn plain() -> Vec<u8> {
    testing::cold_uncompressed(&Bytes::from_static(COLD)).expect("the golden object opens")
}

pub(super) fn cold() -> Seeds {
    vec![("golden", COLD.to_vec()), ("plain", plain())]
}

pub(super) fn import() -> Seeds {
    let plain = plain();
    let with = |control: u8| [&[control][..], &plain].concat();
    vec![("named", with(3)), ("guessed", with(0)), ("numbered", with(4))]
}

pub(super) fn codebook() -> Seeds {
    vec![("golden", CODEBOOK.to_vec())]
}

/// Cells of 1, 0 and 33 rows of 64 components.
pub(super) fn lists() -> Seeds {
    let codec = Codec::new(Metric::Dot, 64, 1);
    let mut encoder = codec.encoder();
    let mut row = |seed: u8| {
        let row: Vec<f32> = (0..64_u8).map(|i| f32::from(i.wrapping_mul(seed)) - 99.0).collect();
        encoder.set_row(&row, 1.0);
        encoder.set_centre(&codec.origin_centre());
        let mut code = vec![0; Bits::One.code_len(64)];
        let factors = encoder.encode(Bits::One, &mut code);
        (code, factors)
    };
    let mut input = vec![0, 0, 3, 0, 1, 1, 34];
    for rows in [0..1, 1..33, 33..34_u8] {
        let rows: Vec<_> = rows.map(&mut row).collect();
        let rows: Vec<_> = rows.iter().map(|(code, factors)| (&**code, *factors)).collect();
        pack_block(64, &rows, &mut input);
    }
    vec![("golden", input), ("sorted", vec![3, 1, 4, 9, 70, 3, 0, 31, 255, 255, 255])]
}

pub(super) fn filter() -> Seeds {
    let rows = r#"[{"color":"red","n":1,"f":0.5,"ok":true,"tags":["t1"],"at":"2026-01-01T00:00:00Z"},{"n":2.5,"tags":"t1"},{"color":null,"f":-1}]"#;
    let with = |filter: &str| [filter.as_bytes(), b"\n", rows.as_bytes()].concat();
    vec![
        ("eq", with(r#"{"field":"color","eq":"red"}"#)),
        ("range", with(r#"{"field":"n","gte":1,"lt":2.5}"#)),
        ("time", with(r#"{"field":"at","gt":"2025-12-31T23:59:59+01:00"}"#)),
        (
            "tree",
            with(
                r#"{"or":[{"and":[{"field":"f","in":[0.5,-1]},{"field":"ok","ne":false}]},{"not":{"field":"tags","contains":"t1"}},{"field":"n","exists":false}]}"#,
            ),
        ),
    ]
}

pub(super) fn operations() -> Seeds {
    let program = |seed: u8, steps: u32| {
        let steps = (0..steps).flat_map(|n| (n * 97 + u32::from(seed)).to_le_bytes());
        [seed].into_iter().chain(steps).collect()
    };
    vec![("short", program(1, 8)), ("long", program(2, 40)), ("empty", Vec::new())]
}
