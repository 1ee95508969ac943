//! Disks that fail, and power that goes, while a segment is written: a final name is a whole file.

use super::*;
use crate::ErrorKind;
use akidb_vfs::sim::{CrashPolicy, Fault, FaultKind, PowerMoment};
use std::path::PathBuf;

fn final_path() -> PathBuf {
    Path::new(DIR).join("000000000009.seg")
}

#[test]
fn a_call_that_fails_leaves_no_file_behind() {
    for (kind, expected) in [
        (FaultKind::Eio, ErrorKind::Unavailable),
        (FaultKind::NoSpace, ErrorKind::NoSpace),
        (FaultKind::TooManyFiles, ErrorKind::Unavailable),
        (FaultKind::SyncFailsCacheKept, ErrorKind::Unavailable),
        (FaultKind::SyncFailsCacheDropped, ErrorKind::Unavailable),
    ] {
        let mut failures = 0;
        for nth in 1.. {
            let fs = disk(nth);
            fs.inject(Fault::new(kind).nth(nth));
            match write(&fs, 9, 3, &small()) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), expected, "{kind:?} {nth}: {error}"),
            }
            assert_eq!(fs.files(), [], "{kind:?} at call {nth}");
            fs.clear_faults();
            let meta = write(&fs, 9, 3, &small()).expect("the writer works when the disk does");
            let segment = open(&fs, &meta, 3, ReadMode::Pread).unwrap();
            assert_eq!(read(&segment).unwrap(), small());
            failures += 1;
        }
        assert!(failures > 0, "{kind:?} never struck");
    }
}

#[test]
fn short_and_interrupted_writes_go_on_where_they_stopped() {
    for kind in [FaultKind::ShortWrite, FaultKind::Interrupted] {
        let fs = disk(1);
        fs.inject(Fault::new(kind));
        let meta = write(&fs, 9, 33, &large()).unwrap();
        assert_eq!(fs.fired()[&kind], 1);
        open(&fs, &meta, 33, ReadMode::Mmap).unwrap().verify().unwrap();
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_the_space_comes_back() {
    let fs = disk(1);
    fs.set_capacity(Some(200_000));
    let error = write(&fs, 9, 33, &large()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(fs.files(), []);
    write(&fs, 9, 3, &small()).unwrap();
}

#[test]
fn a_final_name_after_a_crash_is_a_whole_file() {
    let reference = disk(1);
    let before = reference.calls();
    let meta = write(&reference, 9, 3, &small()).unwrap();
    let calls = reference.calls() - before;
    let whole = akidb_vfs::read_file(&reference, &final_path()).unwrap();
    let (mut present, mut absent) = (0, 0);
    for nth in 1..=calls {
        for moment in [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After] {
            for seed in 0..12 {
                let fs = disk(seed);
                let policy = match seed {
                    0 => CrashPolicy::DropAll,
                    1 => CrashPolicy::KeepAll,
                    _ => CrashPolicy::Random,
                };
                fs.power_off_at_moment(nth, moment);
                write(&fs, 9, 3, &small()).expect_err("the power goes before the end");
                fs.reboot(policy);
                match fs.read_durable(&final_path()) {
                    None => absent += 1,
                    Some(bytes) => {
                        assert_eq!(bytes, whole, "call {nth} {moment:?} {policy:?} seed {seed}");
                        let segment = open(&fs, &meta, 3, ReadMode::Mmap).unwrap();
                        segment.verify().unwrap();
                        present += 1;
                    }
                }
            }
        }
    }
    assert!(present > 0 && absent > 0, "{present} present, {absent} absent");
}

#[test]
fn a_finished_segment_survives_the_strictest_crash() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    fs.crash(CrashPolicy::DropAll);
    let segment = open(&fs, &meta, 3, ReadMode::Mmap).unwrap();
    assert_eq!(read(&segment).unwrap(), small());
}

#[test]
fn a_leftover_of_an_earlier_crash_is_replaced() {
    let fs = disk(1);
    let temp = Path::new(DIR).join("000000000009.seg.tmp");
    fs.create_new(&temp).unwrap().write_all_at(&[1; 9000], 0).unwrap();
    let meta = write(&fs, 9, 3, &small()).unwrap();
    open(&fs, &meta, 3, ReadMode::Mmap).unwrap().verify().unwrap();
    assert_eq!(fs.files().len(), 1);
}
