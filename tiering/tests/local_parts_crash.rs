//! An upload in parts to a directory loses power at every single call: what was acknowledged is
//! there, the object is whole or absent, and what is left can be found, finished or removed.

use akidb_tiering::{
    LocalStore, MultipartStore, ObjectKey, ObjectStore, PartReceipt, PutCondition, StoreErrorKind,
    StoreResult, Upload, UploadOptions,
};
use akidb_vfs::{
    SystemRandom,
    sim::{CrashPolicy, PowerMoment, SimFs},
};
use futures_lite::future::block_on;
use std::sync::Arc;

const LENS: [usize; 3] = [3_000, 700, 1];

fn open(disk: &SimFs, seed: u64) -> LocalStore {
    let store = LocalStore::open(Arc::new(disk.process()), "/db/bucket");
    store.expect("the bucket opens").with_random(Arc::new(SystemRandom::from_seed(seed)))
}

fn key() -> ObjectKey {
    ObjectKey::new("c/whole").expect("a valid key")
}

fn body(at: usize) -> Vec<u8> {
    vec![at as u8 + 1; LENS[at]]
}

fn whole() -> Vec<u8> {
    (0..LENS.len()).flat_map(body).collect()
}

fn parts(store: &LocalStore) -> &dyn MultipartStore {
    store.multipart().expect("a directory has parts")
}

/// How far an upload came.
#[derive(Debug, Default)]
struct Run {
    upload: Option<Upload>,
    acknowledged: Vec<PartReceipt>,
    completing: bool,
    completed: bool,
}

/// Creates, puts every part and one of them twice, and completes, until the power goes.
fn run(store: &LocalStore) -> Run {
    let mut run = Run::default();
    drop(steps(store, &mut run));
    run
}

fn steps(store: &LocalStore, run: &mut Run) -> StoreResult<()> {
    let parts = parts(store);
    let upload = block_on(parts.create(&key(), UploadOptions::default()))?;
    run.upload = Some(upload.clone());
    block_on(parts.put_part(&upload, 1, vec![9; 50].into()))?;
    for at in 0..LENS.len() {
        let part = block_on(parts.put_part(&upload, at as u32 + 1, body(at).into()))?;
        run.acknowledged.push(part);
    }
    run.completing = true;
    block_on(parts.complete(&upload, &run.acknowledged, PutCondition::Any))?;
    run.completed = true;
    Ok(())
}

fn found(store: &LocalStore, context: &str) -> bool {
    match block_on(store.get(&key())) {
        Ok(object) => {
            assert_eq!(object.body, whole(), "{context}: the object is not whole");
            true
        }
        Err(error) => {
            assert_eq!(error.kind, StoreErrorKind::NotFound, "{context}: {error}");
            false
        }
    }
}

/// What must hold of what is there after the power came back.
fn check(store: &LocalStore, run: &Run, context: &str) {
    let parts = parts(store);
    let there = found(store, context);
    assert!(there || !run.completed, "{context}: an acknowledged object is gone");
    assert!(!there || run.completing, "{context}: it appeared before its complete");
    let listed = block_on(parts.list_uploads("", None, 10)).expect("a listing").uploads;
    assert!(listed.len() <= 1, "{context}: {listed:?}");
    let Some(upload) = &run.upload else { return };
    if !there {
        assert_eq!(listed.len(), 1, "{context}: an acknowledged upload is gone");
        let kept = block_on(parts.list_parts(upload, None, 10)).expect("its parts").parts;
        for part in &run.acknowledged {
            let same = |kept: &&akidb_tiering::ListedPart| kept.number == part.number;
            let kept = kept.iter().find(same).expect("an acknowledged part is there");
            assert_eq!((kept.len, &kept.etag), (part.len, &part.etag), "{context}");
        }
    }
}

/// Finishes what can be finished, else removes it; nothing of the upload may remain.
fn settle(store: &LocalStore, run: &Run, context: &str) {
    let parts = parts(store);
    if let Some(upload) = run.upload.as_ref().filter(|_| run.acknowledged.len() == LENS.len()) {
        match block_on(parts.complete(upload, &run.acknowledged, PutCondition::Any)) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::NoSuchUpload, "{context}: {error}");
            }
        }
        assert!(found(store, context), "{context}: an upload with all its parts can be finished");
    }
    for listed in block_on(parts.list_uploads("", None, 10)).expect("a listing").uploads {
        block_on(parts.abort(&listed.upload)).expect("an abort");
    }
    store.sweep_unfinished().expect("a sweep");
}

#[test]
fn an_upload_survives_power_loss_at_every_call_or_leaves_what_can_be_swept() {
    let disk = SimFs::new(0);
    let store = open(&disk, 0);
    let before = disk.calls();
    assert!(run(&store).completed);
    let calls = disk.calls() - before;
    assert!(calls > 40, "the workload is too small to mean anything: {calls} calls");
    for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random] {
        for moment in [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After] {
            for (nth, seed) in (1..=calls).flat_map(|nth| (0..4).map(move |seed| (nth, seed))) {
                let disk = SimFs::new(seed);
                let store = open(&disk, seed);
                disk.power_off_at_moment(nth, moment);
                let run = run(&store);
                disk.reboot(policy);
                let store = open(&disk, seed + 100);
                let context = format!("{policy:?}, {moment:?} call {nth}, seed {seed}");
                check(&store, &run, &context);
                settle(&store, &run, &context);
                let left = |path: &std::path::Path| path.to_string_lossy().contains('~');
                let left: Vec<_> = disk.files().into_iter().filter(|(p, _)| left(p)).collect();
                assert!(left.is_empty(), "{context}: left behind: {left:?}");
            }
        }
    }
}

#[test]
fn a_part_that_rotted_is_not_made_into_an_object() {
    let disk = SimFs::new(1);
    let store = open(&disk, 1);
    let mut run = Run::default();
    let name = key();
    let create = parts(&store).create(&name, UploadOptions::default());
    let upload = block_on(create).expect("an upload");
    let part = block_on(parts(&store).put_part(&upload, 1, body(0).into())).expect("a part");
    let files = disk.files();
    let path = files.iter().map(|(path, _)| path).find(|path| path.ends_with("00001.part"));
    disk.corrupt(path.expect("the part is a file"), 1_500, 1).expect("a byte to damage");
    run.acknowledged.push(part);
    let ended = block_on(parts(&store).complete(&upload, &run.acknowledged, PutCondition::Any));
    assert_eq!(ended.expect_err("other bytes").kind, StoreErrorKind::InvalidPart);
    assert!(!found(&store, "after a refused complete"));
}

#[test]
fn an_id_from_elsewhere_leads_nowhere() {
    let disk = SimFs::new(1);
    let store = open(&disk, 1);
    for id in ["", "..", "../../x", "0", &"g".repeat(32), &"0".repeat(32)] {
        let upload = Upload { key: key(), id: akidb_tiering::UploadId::new(id) };
        let put = block_on(parts(&store).put_part(&upload, 1, "x".into()));
        assert_eq!(put.expect_err("no such upload").kind, StoreErrorKind::NoSuchUpload, "{id}");
        block_on(parts(&store).abort(&upload)).expect("nothing to abort");
    }
}
