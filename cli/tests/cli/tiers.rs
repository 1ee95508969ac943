//! Collections moved between tiers by command, what is set for them, snapshots, and the object store.

use crate::{hit_ids, run, with_sample};
use akidb::{
    DbBuilder, Metric, Point, Schema, Settings, Tier, TierSettings,
    tiering::LocalStore,
    vfs::{EntryKind, Fs, RealFs, read_file},
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// The first collection of `tier list`.
fn first(listed: &Value) -> &Value {
    &listed["collections"][0]
}

/// How many Parquet objects lie below a directory.
fn objects(dir: &Path) -> usize {
    let entries = RealFs.list_dir(dir).unwrap_or_default();
    let below = entries.into_iter().map(|entry| match entry.kind {
        EntryKind::Dir => objects(&dir.join(entry.name)),
        _ => usize::from(entry.name.to_string_lossy().ends_with(".parquet")),
    });
    below.sum()
}

#[test]
fn a_collection_goes_to_a_store_of_its_own_and_comes_back_when_it_is_read() {
    let dir = with_sample();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("--store file:{}", elsewhere.path().display());
    let line = format!("tier move --dir DIR -C words cold {store} --json");
    let moved = run(dir.path(), &line).json();
    assert_eq!((&moved["moved"], &moved["tier"]), (&json!(true), &json!("cold")));
    assert_eq!((&moved["rows"], &moved["disk_bytes"]), (&json!(5000), &json!(0)));
    assert_eq!((objects(elsewhere.path()), objects(&dir.path().join("objects"))), (1, 0));

    // Without the store the rows are not there, and the hint says what to look at.
    let text = run(dir.path(), "search --dir DIR -C words --id n13766896").fails(1);
    assert!(text.contains("--store") && text.contains("AKIDB_STORE"), "{text}");

    let line = format!("search --dir DIR -C words --id n13766896 -k 3 {store} --json");
    assert_eq!(hit_ids(&run(dir.path(), &line).json())[0], "n13766896");
    let listed = run(dir.path(), &format!("tier list --dir DIR {store} --json")).json();
    assert_eq!(
        (&first(&listed)["tier"], &first(&listed)["cold_bytes"]),
        (&json!("warm"), &json!(0))
    );
}

#[test]
fn every_tier_can_be_asked_for_and_moving_there_again_does_nothing() {
    let dir = with_sample();
    for tier in ["warm", "hot", "cold", "hot", "cold", "warm"] {
        let line = format!("tier move --dir DIR -C words {tier} --json");
        let moved = run(dir.path(), &line).json();
        assert_eq!((&moved["moved"], &moved["tier"]), (&json!(true), &json!(tier)));
        assert_eq!(run(dir.path(), &line).json()["moved"], false, "{tier}");
    }
    let text = run(dir.path(), "tier move --dir DIR -C words hot").ok();
    assert!(text.contains("from warm to hot") && text.contains("5,000 rows"), "{text}");
    let text = run(dir.path(), "tier list --dir DIR").ok();
    assert!(text.contains("words") && text.contains("by the policy"), "{text}");
}

#[test]
fn a_pinned_collection_is_not_made_cold_and_the_hint_says_how_to_unpin_it() {
    let dir = with_sample();
    assert_eq!(run(dir.path(), "tier pin --dir DIR -C words --json").json()["pinned"], true);
    let text = run(dir.path(), "tier move --dir DIR -C words cold").fails(1);
    assert!(text.contains("pinned") && text.contains("akidb tier unpin"), "{text}");
    run(dir.path(), "tier unpin --dir DIR -C words").ok();
    run(dir.path(), "tier move --dir DIR -C words cold").ok();
}

#[test]
fn a_cycle_moves_what_is_due_and_says_what_it_moved() {
    let dir = with_sample();
    let usual = run(dir.path(), "tier run --dir DIR --json").json();
    assert_eq!((&usual["due"], &usual["moves"]), (&json!(0), &json!([])));
    // By its own policy it never moves, whatever the cycle's is.
    run(dir.path(), "tier policy --dir DIR -C words --never").ok();
    let line = "tier run --dir DIR --hot-idle 0s --store file:DIR --json";
    let store = format!("file:{}", dir.path().join("bucket").display());
    let line = line.replace("file:DIR", &store);
    assert_eq!(run(dir.path(), &line).json()["due"], 0);
    run(dir.path(), "tier policy --dir DIR -C words --clear").ok();
    let ran = run(dir.path(), &line).json();
    assert_eq!(ran["moves"], json!([{"collection": "words", "from": "hot", "to": "warm"}]));
    let line = line.replace("--hot-idle 0s", "--warm-idle 0s");
    let ran = run(dir.path(), &line.replace(" --json", "")).ok();
    assert!(ran.contains("words: warm to cold") && ran.contains("1 move due: 1 made"), "{ran}");
}

#[test]
fn what_a_collection_wants_is_kept_added_to_and_cleared() {
    let dir = with_sample();
    let policy = |options: &str| {
        let line = format!("tier policy --dir DIR -C words {options} --json").replace("  ", " ");
        run(dir.path(), &line).json()
    };
    let set = policy("--hot-idle 2h --promote-on-access false");
    assert_eq!(set["changed"], true);
    let set = policy("--hot-accesses 3");
    let overrides = &set["overrides"];
    assert_eq!(overrides["hot_idle_ms"], 7_200_000);
    assert_eq!(
        (&overrides["hot_accesses"], &overrides["promote_on_access"]),
        (&json!(3), &json!(false))
    );
    let shown = policy("");
    assert_eq!((&shown["changed"], &shown["overrides"]), (&json!(false), overrides));
    let cleared = policy("--clear");
    assert_eq!(cleared["overrides"]["hot_idle_ms"], Value::Null);
    run(dir.path(), "tier policy --dir DIR -C words --clear --never").fails(2);
    let text = run(dir.path(), "tier policy --dir DIR -C words --hot-idle 5").fails(2);
    assert!(text.contains("like 90s"), "{text}");
}

#[test]
fn without_dead_letters_the_list_is_empty_and_a_number_is_an_error() {
    let dir = with_sample();
    assert_eq!(run(dir.path(), "dlq list --dir DIR").ok(), "no move was given up\n");
    let listed = run(dir.path(), "dlq list --dir DIR --json").json();
    assert_eq!(listed["dead_letters"], json!([]));
    assert_eq!(run(dir.path(), "dlq retry --dir DIR --all").ok(), "no move was given up\n");
    let text = run(dir.path(), "dlq drop --dir DIR 7").fails(1);
    assert!(text.contains("dead letter 7"), "{text}");
    run(dir.path(), "dlq retry --dir DIR").fails(2);
}

#[test]
fn a_directory_is_checked_as_a_store_and_nothing_is_left_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("--store file:{}", dir.path().display());
    let checked = run(dir.path(), &format!("store check {store} --json"));
    assert_eq!(checked.code, Some(3), "a directory is for one writer: {}", checked.stderr);
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(checked["multi_writer"], false);
    let names: Vec<_> = checked["capabilities"].as_array().unwrap().iter().collect();
    assert!(names.iter().any(|one| one["name"] == "if-absent" && one["there"] == true));
    let text = run(dir.path(), &format!("store check {store}")).stdout;
    assert!(text.contains("within one process"), "{text}");
    assert_eq!(objects(dir.path()), 0);
    let text = run(dir.path(), "store check").fails(1);
    assert!(text.contains("--store file:DIR"), "{text}");
    run(dir.path(), "store check --store ./objects").fails(2);
}

#[test]
fn reading_only_does_not_make_the_store_that_was_mistyped() {
    let dir = with_sample();
    let missing = dir.path().join("typo");
    let line = format!("stats --dir DIR --read-only --store file:{}", missing.display());
    run(dir.path(), &line).fails(1);
    assert!(RealFs.metadata(&missing).is_err());
}

/// The JSON blocks of the guide of tiers.
fn settings_of_the_guide() -> Vec<TierSettings> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/tiering.md");
    let text = read_file(&RealFs, &path).expect("the guide is there");
    let text = String::from_utf8(text).expect("UTF-8");
    let blocks = text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| serde_json::from_str(block).expect(block)).collect()
}

#[test]
fn the_settings_of_the_guide_open_a_database() {
    let all = settings_of_the_guide();
    assert_eq!((all.len(), &all[0]), (5, &TierSettings::default()));
    for tiers in all {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(Arc::new(RealFs), dir.path().join("bucket")).unwrap();
        let settings = Settings { tiers: tiers.clone(), ..Settings::default() };
        let builder = DbBuilder::new(dir.path().join("db")).settings(settings);
        let db = builder.object_store(Arc::new(store)).open_blocking().unwrap();
        let docs = db.create_collection("docs", Schema::new(2, Metric::L2)).unwrap();
        docs.upsert([Point::new(1, [0.0, 1.0])]).run().unwrap();
        docs.move_to(Tier::Cold).unwrap();
        docs.search(&[0.0, 1.0]).k(1).run().unwrap();
        assert_eq!(docs.tier(), Tier::Warm);
        // What was read is idle for none of them; whether one read makes it hot is the policy's.
        let busy = u64::from(tiers.policy.hot_accesses <= 1);
        docs.search(&[0.0, 1.0]).k(1).run().unwrap();
        assert_eq!(db.run_tiering().unwrap().moved, busy, "{tiers:?}");
        db.close().unwrap();
    }
}

#[cfg(not(feature = "s3"))]
#[test]
fn a_build_without_s3_says_how_to_make_one_with_it() {
    let dir = with_sample();
    let text = run(dir.path(), "stats --dir DIR --store s3://rows/here").fails(1);
    assert!(text.contains("--features s3"), "{text}");
}

#[test]
fn a_lost_directory_is_made_again_of_its_store() {
    let (dir, elsewhere, new) =
        (with_sample(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = format!("--store file:{}", elsewhere.path().display());
    run(dir.path(), &format!("snapshot create --dir DIR -C words first {store}")).ok();
    let checked =
        run(dir.path(), &format!("snapshot verify --dir DIR first {store} --json")).json();
    assert_eq!(checked["rows"], 5000);
    run(dir.path(), &format!("tier move --dir DIR -C words cold {store}")).ok();
    drop(dir);
    let text = run(new.path(), "restore --dir DIR").fails(1);
    assert!(text.contains("--store"), "{text}");
    let restored = run(new.path(), &format!("restore --dir DIR {store} --json")).json();
    assert_eq!(restored["collections"], json!(["words"]));
    assert_eq!(restored["snapshots"], json!(["first"]));
    let line = format!("search --dir DIR -C words --id n13766896 -k 3 {store} --json");
    assert_eq!(hit_ids(&run(new.path(), &line).json())[0], "n13766896");
    let line = format!("snapshot restore --dir DIR first --to words --over {store} --json");
    assert_eq!(run(new.path(), &line).json()["rows"], 5000);
    let again = run(new.path(), &format!("restore --dir DIR {store}")).fails(1);
    assert!(again.contains("not empty"), "{again}");
}
