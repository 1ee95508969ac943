//! The bytes of the manifest in a bucket: the golden file, its page, and everything that is not a
//! manifest.

use super::{
    error::BucketError,
    format::{HEADER_CRC_AT, HEADER_LEN, MAGIC, decode, encode},
    protocol_tests::collection,
    state::{BucketState, Contents, Nonce, Version},
};
use crate::{
    FieldType, Metric, Schema,
    error::{Error, ErrorKind},
    manifest::{Slice, SnapshotManifest, page_tests::object},
    segment::tests::golden::{check_golden, example_in},
};
use akidb_vfs::{RealFs, read_file};
use proptest::prelude::*;
use std::path::Path;
use uuid::Uuid;

const FILE: &str = "s3://pets/akidb/manifest";
const GOLDEN: &str = "bucket-manifest-v2.bin";

/// A state in which every key says something.
fn example() -> BucketState {
    let mut docs = collection(0, "docs", &["00112233445566778899aabbccddeeff/e2/c0/5f.parquet"]);
    docs.schema = Schema::new(2, Metric::Cosine).field("pos", FieldType::Keyword);
    docs.pinned = true;
    docs.cold[0].key = "00112233445566778899aabbccddeeff/e2/packs/5f.pack".to_owned();
    docs.cold[0].slice = Some(Slice { offset: 4096, object_len: 8192 });
    let snapshot = SnapshotManifest {
        name: "friday".to_owned(),
        collection: "docs".to_owned(),
        schema: docs.schema.clone(),
        object: object("00112233445566778899aabbccddeeff/e2/snapshots/60.parquet"),
        creator: "akidb 0.1.0".to_owned(),
        namespace: None,
    };
    BucketState {
        database: Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
        version: Version {
            epoch: 3,
            writer: Nonce::new(0x0f1e_2d3c_4b5a_6978_8796_a5b4_c3d2_e1f0),
            commit: 41,
            attempt: 1,
        },
        holder: "process 7 on shelf-2".to_owned(),
        creator: "akidb 0.1.0".to_owned(),
        contents: Contents {
            next_collection: 1,
            collections: [(0, docs)].into(),
            snapshots: [("friday".to_owned(), snapshot)].into(),
            garbage: ["00112233445566778899aabbccddeeff/e1/c0/5e.parquet".to_owned()].into(),
            partial: [0].into(),
        },
    }
}

/// A manifest whose body is this JSON and whose checksums are right.
fn sealed(json: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let packed = zstd::bulk::compress(json, 3).unwrap();
    let mut bytes = encode(&example()).unwrap()[..HEADER_LEN].to_vec();
    bytes[32..40].copy_from_slice(&(json.len() as u64).to_le_bytes());
    bytes[40..48].copy_from_slice(&(packed.len() as u64).to_le_bytes());
    bytes[48..52].copy_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    change(&mut bytes);
    let crc = crc32fast::hash(&bytes[..HEADER_CRC_AT]);
    bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&packed);
    bytes
}

fn json() -> Vec<u8> {
    serde_json::to_vec(&example()).unwrap()
}

#[track_caller]
fn assert_damaged(bytes: &[u8], what: &str) {
    match decode(bytes, FILE) {
        Err(error @ BucketError::Damaged { .. }) => {
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert!(error.to_string().contains(FILE), "{what}: {error}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn the_page_and_the_golden_file_show_the_same_bucket_manifest() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(GOLDEN);
    // Another zstd may compress to other bytes, so what is written is not compared.
    if std::env::var_os("AKIDB_BLESS").is_some() {
        check_golden(GOLDEN, &encode(&example()).unwrap());
    }
    let bytes = read_file(&RealFs, &golden).unwrap();
    assert_eq!(decode(&bytes, FILE).unwrap(), example());
    assert_eq!(example_in("bucket-manifest.md"), bytes[..HEADER_LEN], "the header on the page");
    let page = include_str!("../../../docs/format/bucket-manifest.md");
    let shown = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(serde_json::from_str::<BucketState>(shown).unwrap(), example());
}

#[test]
fn a_manifest_of_version_1_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bucket-manifest-v1.bin");
    let state = decode(&read_file(&RealFs, &golden).unwrap(), FILE).unwrap();
    let mut expected = example();
    let docs = expected.contents.collections.get_mut(&0).unwrap();
    docs.cold = vec![object("00112233445566778899aabbccddeeff/e2/c0/5f.parquet")];
    assert_eq!(state, expected);
}

#[test]
fn every_flipped_bit_is_found() {
    let intact = encode(&example()).unwrap().to_vec();
    for at in 0..intact.len() {
        for bit in 0..8 {
            let mut bytes = intact.clone();
            bytes[at] ^= 1 << bit;
            assert_damaged(&bytes, &format!("bit {bit} of byte {at}"));
        }
    }
}

#[test]
fn every_other_length_is_found() {
    let intact = encode(&example()).unwrap().to_vec();
    for len in 0..intact.len() {
        assert_damaged(&intact[..len], &format!("{len} bytes"));
    }
    assert_damaged(&[&intact[..], b"\0"].concat(), "a byte more");
    assert_damaged(b"<html>not here</html>", "a foreign object");
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let newer = sealed(&json(), |header| header[8] = 3);
    let error = Error::from(decode(&newer, FILE).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("version 3") && error.to_string().contains(FILE), "{error}");
    assert_damaged(&sealed(&json(), |header| header[8] = 0), "version 0");
    assert_damaged(&sealed(&json(), |header| header[12] = 1), "the reserved bytes");
}

#[test]
fn a_length_that_lies_is_refused_before_it_is_allocated() {
    for stated in [0, 1, json().len() as u64 + 1, (256 << 20) + 1, u64::MAX] {
        let lying = sealed(&json(), |header| header[32..40].copy_from_slice(&stated.to_le_bytes()));
        assert_damaged(&lying, &format!("{stated} bytes of JSON"));
    }
    let other = sealed(&json(), |header| header[16] ^= 1);
    assert_damaged(&other, "a header of another database");
}

#[test]
fn each_rule_of_a_state_is_checked_when_it_is_read_and_when_it_is_written() {
    type Break = fn(&mut BucketState);
    let rules: [(&str, Break); 10] = [
        ("epoch 0", |s| s.version.epoch = 0),
        ("commit 0", |s| s.version.commit = 0),
        ("a long holder", |s| s.holder = "x".repeat(257)),
        ("a collection above the mark", |s| s.contents.next_collection = 0),
        ("a name with a path in it", |s| {
            s.contents.collections.get_mut(&0).unwrap().name = "../docs".to_owned();
        }),
        ("a key with a path in it", |s| {
            s.contents.collections.get_mut(&0).unwrap().cold[0].key = "a/../b".to_owned();
        }),
        ("garbage with a path in it", |s| {
            s.contents.garbage.insert("../b".to_owned());
        }),
        ("garbage that is named", |s| s.contents.garbage.extend(s.contents.named())),
        ("a snapshot under another name", |s| {
            s.contents.snapshots.get_mut("friday").unwrap().name = "monday".to_owned();
        }),
        ("an LSN at the end", |s| {
            s.contents.collections.get_mut(&0).unwrap().cold[0].max_lsn = u64::MAX;
        }),
    ];
    for (what, break_it) in rules {
        let mut state = example();
        break_it(&mut state);
        assert!(encode(&state).is_err(), "{what} is written");
        assert_damaged(&sealed(&serde_json::to_vec(&state).unwrap(), |_| {}), what);
    }
    assert_eq!(decode(&sealed(&json(), |_| {}), FILE).unwrap(), example());
    assert_eq!(MAGIC, *b"AKIDBBKT");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_and_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        assert_damaged(&bytes, "noise");
        assert_damaged(&sealed(&bytes, |_| {}), "noise under right checksums");
    }

    #[test]
    fn a_body_that_was_tampered_with_is_refused_or_means_what_it_says(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut json = json();
        for (at, value) in edits {
            let at = at.index(json.len());
            json[at] = value;
        }
        if let Ok(state) = decode(&sealed(&json, |_| {}), FILE) {
            prop_assert_eq!(decode(&encode(&state).unwrap(), FILE).unwrap(), state);
        }
    }

    #[test]
    fn what_goes_in_comes_out(
        keys in prop::collection::btree_set("[a-z0-9]{1,20}", 0..20),
        epoch in 1_u64..,
        commit in 1_u64..,
        attempt: u32,
        writer: u128,
        holder in "\\PC{0,60}",
    ) {
        let mut state = example();
        state.version = Version { epoch, writer: Nonce::new(writer), commit, attempt };
        state.holder = holder;
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        state.contents.collections.insert(0, collection(0, "docs", &keys));
        prop_assert_eq!(decode(&encode(&state).unwrap(), FILE).unwrap(), state);
    }
}
