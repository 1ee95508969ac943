//! A machine with a database: its disk, which outlives its processes, and what a process does from
//! its opening on, the way the engine does it.

use super::{
    dice::Dice,
    store::{TurnStore, turn},
    witness::Witness,
};
use crate::{
    Metric, Schema,
    bucket::{Contents, GRACE_DEFAULT, Lineage, Opening, Root, Session, open_writer},
    error::{Error, ErrorKind},
    manifest::{ColdMeta, CollectionManifest},
};
use akidb_tiering::{ObjectKey, ObjectStore, PutOptions, put_verified};
use akidb_vfs::SystemRandom;
use akidb_wal::Lsn;
use parking_lot::Mutex;
use std::sync::Arc;
use uuid::Uuid;

/// The database that everybody wants.
const DATABASE: Uuid = Uuid::from_u128(0xd5);

/// What a directory holds, durably.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) lineage: Lineage,
    pub(super) contents: Contents,
}

/// How the life of a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it had planned.
    Closed,
    /// A call failed; it may be started again.
    Failed,
    /// Another machine took the database over.
    Fenced,
}

/// What a process is handed.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) store: Arc<TurnStore>,
    pub(super) witness: Arc<Witness>,
    pub(super) seed: u64,
    /// Begin with what the bucket says, not with what the disk does.
    pub(super) restore: bool,
    /// How much it does before it closes.
    pub(super) steps: u64,
}

/// Something that must never happen.
type Violation = String;

impl Process {
    pub(super) async fn live(self) -> Result<End, Violation> {
        let root = Root::new(self.store.clone(), "sim/");
        if self.restore {
            match root.look().await {
                Ok(Some(found)) => {
                    let restored = found.state.restored();
                    debug_assert!(restored.partial.is_empty(), "machines ship everything");
                    let contents = Contents::of(&restored.manifest);
                    *self.disk.lock() = Disk { lineage: restored.lineage, contents };
                    self.witness.count("restored", 1);
                }
                Ok(None) => return Ok(End::Failed),
                Err(error) => return self.ended(&error.into()),
            }
        }
        let session = match self.open(root).await {
            Ok(session) => session,
            Err(error) => return self.ended(&error),
        };
        Work {
            dice: Dice::new(self.seed ^ 1),
            process: self,
            session,
            uploads: Vec::new(),
            unrecorded: None,
        }
        .run()
        .await
    }

    async fn open(&self, root: Root) -> Result<Session, Error> {
        let Disk { lineage, contents } = self.disk.lock().clone();
        let opening = Opening {
            root,
            random: Arc::new(SystemRandom::from_seed(self.seed)),
            database: DATABASE,
            holder: self.name.clone(),
            lineage,
            contents,
        };
        let mut record = |lineage: &Lineage| {
            self.disk.lock().lineage = lineage.clone();
            Ok(())
        };
        let session = open_writer(opening, &mut record).await?;
        debug_assert!(session.is_fenced_safely(), "the store has conditional puts");
        self.witness.count("opened", 1);
        Ok(session)
    }

    /// Failures of the store and being fenced belong to the game; nothing else does.
    fn ended(&self, error: &Error) -> Result<End, Violation> {
        match error.kind() {
            ErrorKind::Locked => {
                self.witness.count("fenced", 1);
                Ok(End::Fenced)
            }
            ErrorKind::Unavailable => Ok(End::Failed),
            _ => Err(format!("{} fails: {error}", self.name)),
        }
    }
}

/// A process that has the bucket, or believes so.
struct Work {
    dice: Dice,
    process: Process,
    session: Session,
    /// Put, verified, and not named yet.
    uploads: Vec<ObjectKey>,
    /// What was committed and is still to be made durable here, on a slow disk.
    unrecorded: Option<Disk>,
}

impl Work {
    async fn run(mut self) -> Result<End, Violation> {
        for _ in 0..self.process.steps {
            let end = match self.dice.below(9) {
                0..=2 => self.upload().await,
                3..=4 => self.name().await,
                5 => self.give_up().await,
                6 => self.delete_garbage().await,
                7 => self.sweep().await,
                _ => {
                    turn().await;
                    Ok(None)
                }
            };
            if let Some(end) = end? {
                return Ok(end);
            }
        }
        Ok(End::Closed)
    }

    async fn upload(&mut self) -> Result<Option<End>, Violation> {
        let key = match self.dice.below(4) {
            0 => self.session.snapshot_key(),
            _ => self.session.cold_key(0),
        };
        let key = key.map_err(|error| error.to_string())?;
        let body = key.as_str().to_owned().into();
        // What fails is left to the sweep: it may have arrived, or still.
        if put_verified(&*self.process.store, &key, body, PutOptions::default()).await.is_ok() {
            self.uploads.push(key);
        }
        Ok(None)
    }

    /// Names what was uploaded, as a demotion does.
    async fn name(&mut self) -> Result<Option<End>, Violation> {
        self.record()?;
        let uploads = std::mem::take(&mut self.uploads);
        if uploads.is_empty() {
            return Ok(None);
        }
        let mut contents = self.process.disk.lock().contents.clone();
        add(&mut contents, &uploads);
        let Err((end, maybe)) = self.commit(contents).await? else { return Ok(None) };
        if !maybe {
            for key in &uploads {
                // Proven lost: nobody else knows the key.
                drop(self.process.store.delete(key).await);
            }
        } else if self.dice.one_in(2) {
            self.uploads = uploads;
        }
        Ok(end)
    }

    /// Stops naming an object, as a promotion or a drop does.
    async fn give_up(&mut self) -> Result<Option<End>, Violation> {
        self.record()?;
        let mut contents = self.process.disk.lock().contents.clone();
        let named: Vec<String> = contents.named().into_iter().collect();
        let Some(most) = (named.len() as u64).checked_sub(1) else { return Ok(None) };
        let Some(key) = named.get(self.dice.below(most + 1) as usize) else { return Ok(None) };
        self.process.witness.gives_up(key);
        for collection in contents.collections.values_mut() {
            collection.cold.retain(|object| object.key != *key);
        }
        match self.commit(contents).await? {
            Ok(()) => Ok(None),
            Err((end, _)) => Ok(end),
        }
    }

    /// Commits, and records on the own disk. A failure says whether the process ends of it, and
    /// whether the commit may have happened.
    async fn commit(
        &mut self,
        contents: Contents,
    ) -> Result<Result<(), (Option<End>, bool)>, Violation> {
        match self.session.commit(contents.clone()).await {
            Ok(lineage) => {
                self.unrecorded = Some(Disk { lineage, contents });
                // Those of an earlier commit whose outcome is known now.
                let garbage = &self.session.state().contents.garbage;
                self.uploads.retain(|key| !garbage.contains(key.as_str()));
                if self.dice.one_in(3) { Ok(Ok(())) } else { self.record().map(Ok) }
            }
            Err(failure) => {
                if failure.maybe_committed {
                    self.process.witness.count("in doubt", 1);
                }
                let end = self.process.ended(&failure.error.into())?;
                let end = Some(end).filter(|end| *end == End::Fenced || self.dice.one_in(4));
                Ok(Err((end, failure.maybe_committed)))
            }
        }
    }

    /// Makes the last commit durable on the own disk, and tells the user.
    fn record(&mut self) -> Result<(), Violation> {
        let Some(disk) = self.unrecorded.take() else { return Ok(()) };
        let lineage = disk.lineage.clone();
        *self.process.disk.lock() = disk;
        self.session.recorded(&lineage);
        self.process.witness.acknowledged(self.session.state())
    }

    async fn delete_garbage(&mut self) -> Result<Option<End>, Violation> {
        match self.session.delete_garbage().await {
            Ok(gone) => {
                self.process.witness.count("garbage deleted", gone.len() as u64);
                let mut disk = self.process.disk.lock();
                disk.contents.garbage.retain(|key| !gone.contains(key));
                Ok(None)
            }
            Err(error) => self.unless_fenced(&error.into()),
        }
    }

    async fn sweep(&mut self) -> Result<Option<End>, Violation> {
        match self.session.sweep(GRACE_DEFAULT).await {
            Ok(report) => {
                self.process.witness.count("swept", report.deleted.len() as u64);
                Ok(None)
            }
            Err(error) => self.unless_fenced(&error.into()),
        }
    }

    fn unless_fenced(&self, error: &Error) -> Result<Option<End>, Violation> {
        self.process.ended(error).map(|end| Some(end).filter(|end| *end == End::Fenced))
    }
}

/// Names objects as the cold tier of the one collection there is.
fn add(contents: &mut Contents, keys: &[ObjectKey]) {
    contents.next_collection = 1;
    let collection = contents.collections.entry(0).or_insert_with(|| {
        let schema = Schema::new(2, Metric::Dot);
        CollectionManifest { flushed: Lsn::new(1), ..CollectionManifest::new(0, "docs", schema) }
    });
    collection.cold.extend(keys.iter().map(|key| {
        let len = key.as_str().len() as u64;
        let crc32 = crc32fast::hash(key.as_str().as_bytes());
        ColdMeta { key: key.to_string(), len, crc32, rows: 1, min_lsn: 1, max_lsn: 1, slice: None }
    }));
}

/// The last machine: takes everything over in peace, and leaves nothing behind that is not named.
pub(super) async fn settle(process: Process, grace: std::time::Duration) -> Result<(), Violation> {
    let text = |error: Error| error.to_string();
    let root = Root::new(process.store.clone(), "sim/");
    let Some(found) = root.look().await.map_err(|error| text(error.into()))? else {
        return Ok(());
    };
    let restored = found.state.restored();
    let contents = Contents::of(&restored.manifest);
    *process.disk.lock() = Disk { lineage: restored.lineage, contents: contents.clone() };
    let mut session = process.open(root).await.map_err(text)?;
    session.delete_garbage().await.map_err(|error| text(error.into()))?;
    process.store.advance(grace);
    let swept = session.sweep(grace).await.map_err(|error| text(error.into()))?;
    process.witness.count("swept", swept.deleted.len() as u64);
    let contents = Contents { garbage: Default::default(), ..contents };
    let lineage = session.commit(contents).await.map_err(|failure| text(failure.error.into()))?;
    session.recorded(&lineage);
    process.witness.close(&process.store, session.state())
}
