//! Rules of the shared heart that no public call reaches alone.

use super::{Components, DbCore, open};
use crate::{
    error::{Error, ErrorKind},
    manifest::Edit,
    settings::Settings,
};
use akidb_vfs::{
    SystemRandom,
    sim::{SimClock, SimFs},
};
use std::{path::Path, sync::Arc};

fn core() -> Arc<DbCore> {
    let parts = Components {
        fs: Arc::new(SimFs::new(1)),
        clock: Arc::new(SimClock::new()),
        random: Arc::new(SystemRandom::from_seed(1)),
        store: None,
        inline: true,
    };
    open(Path::new("/data/db"), Settings::default(), parts).expect("a new database")
}

fn commit_something(core: &DbCore) -> Result<(), ErrorKind> {
    let edit = Edit { next_file: core.next_file() + 1, ..Edit::default() };
    core.commit_manifest(&edit).map_err(|error| error.kind())
}

#[test]
fn no_record_follows_one_of_which_nobody_knows_whether_it_is_there() {
    let core = core();
    assert_eq!(commit_something(&core), Ok(()));
    core.shared.poison(Error::bug("a record that may be there"));
    assert_eq!(commit_something(&core), Err(ErrorKind::Reopen));
}

#[test]
fn no_record_is_written_once_the_directory_may_be_anothers() {
    let core = core();
    core.close().expect("it closes");
    assert_eq!(commit_something(&core), Err(ErrorKind::Closed));
}
