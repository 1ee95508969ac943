//! Ends and starts of the database, and what must be found after them.

use super::{Pending, Runner};
use crate::{
    ops::End,
    oracle::{Rows, rows_of},
};
use akidb::{Cursor, blocking::Collection};
use akidb_vfs::sim::CrashPolicy;

impl Runner {
    /// Ends the database and opens it again. With `again` a recovery is begun first that loses
    /// power at that call.
    pub(super) fn restart(&mut self, end: End, again: Option<u64>) {
        self.tally.restarts += 1;
        self.note_work();
        self.disarm();
        let synced = self.oracle.durable_lsn;
        let mut keeps = self.end(end);
        if end == End::Kill && again.is_some() {
            // The power goes before anything has synced what the dead process wrote.
            keeps = synced;
        }
        self.start_again(keeps, again);
    }

    /// Closes the database, which may fail where the power goes meanwhile, and opens it again
    /// after a loss of power.
    pub(super) fn close_and_restart(&mut self, policy: CrashPolicy) {
        let keeps = self.end(End::Close);
        self.world.sim.reboot(policy);
        self.start_again(keeps, None);
    }

    pub(super) fn start_again(&mut self, keeps: u64, again: Option<u64>) {
        if let Some(nth) = again {
            self.world.sim.power_off_at(nth);
            match self.world.open() {
                Ok(db) => drop(db),
                Err(error) => {
                    assert!(!self.world.sim.is_powered(), "recovery fails: {error:?} {error}");
                }
            }
            if self.world.sim.is_powered() {
                self.disarm();
            } else {
                self.world.sim.reboot(self.policy);
            }
        }
        let db = match self.world.open() {
            Ok(db) => db,
            Err(error) => panic!("recovery fails: {error:?} {error}"),
        };
        let found = db.recovery_report().last_lsn;
        self.db = Some(db);
        self.accept_prefix(found, keeps);
        self.settle_structure();
        if self.rng.bool() {
            self.verify();
        }
    }

    /// Ends the database; returns the LSN up to which everything must come back.
    pub(super) fn end(&mut self, end: End) -> u64 {
        self.intervals.clear();
        let db = self.db.take().expect("open between steps");
        let poisoned = db.stats().poisoned.is_some();
        let synced = self.oracle.durable_lsn;
        match end {
            End::Close => {
                let closed = db.close();
                let excused = poisoned || !self.world.sim.is_powered();
                assert!(closed.is_ok() || excused, "close fails: {closed:?}");
                if excused { synced } else { self.oracle.last_lsn }
            }
            End::Drop => {
                drop(db);
                if poisoned { synced } else { self.oracle.last_lsn }
            }
            End::Kill => {
                self.world.sim.kill();
                drop(db);
                if poisoned { synced } else { self.oracle.written_lsn }
            }
            End::Crash(policy) => {
                self.world.sim.crash(policy);
                drop(db);
                synced
            }
        }
    }

    /// D3: what recovery found is a prefix that holds everything promised.
    pub(super) fn accept_prefix(&mut self, found: u64, keeps: u64) {
        let last = self.oracle.last_lsn;
        assert!(found >= keeps, "LSN {keeps} was promised, recovery ends at {found}");
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Write(collection, change) if found == last + 1 => {
                self.oracle.commit(&collection, found, change);
            }
            Pending::Write(..) => assert!(found <= last, "LSN {found} was never given"),
            other => {
                assert!(found <= last, "LSN {found} was never given, the last is {last}");
                self.pending = other;
            }
        }
        self.tally.lost += last.saturating_sub(found);
        self.oracle.truncate(found);
    }

    /// Finds out whether a failed change of structure happened, then checks that all structure is
    /// as it must be.
    pub(super) fn settle_structure(&mut self) {
        let db = self.db.as_ref().expect("open");
        let names = db.list_collections().expect("an open database lists");
        let snapshots = db.list_snapshots();
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing | Pending::Write(..) => {}
            Pending::Create(name, schema, rows) => {
                if names.contains(&name) {
                    self.oracle.create(&name, schema, rows);
                }
            }
            Pending::Drop(name) => {
                if !names.contains(&name) {
                    self.oracle.collections.remove(&name);
                }
            }
            Pending::Snapshot(name, snapshot) => {
                if snapshots.iter().any(|found| found.name == name) {
                    assert!(
                        snapshot.lsn <= self.oracle.last_lsn,
                        "snapshot {name} holds LSN {}, recovery ends at {}",
                        snapshot.lsn,
                        self.oracle.last_lsn
                    );
                    self.oracle.snapshots.insert(name, snapshot);
                }
            }
            Pending::DeleteSnapshot(name) => {
                if !snapshots.iter().any(|found| found.name == name) {
                    self.oracle.snapshots.remove(&name);
                }
            }
            Pending::Pin(name, pinned) => {
                let found = db.collection(&name).is_ok_and(|c| c.stats().pinned);
                if found == pinned
                    && let Some(c) = self.oracle.collections.get_mut(&name)
                {
                    c.pinned = pinned;
                }
            }
            Pending::AddField(name, field) => {
                let schema = db.collection(&name).expect("the collection stays").schema();
                if schema.field_type(&field.name).is_some()
                    && let Some(c) = self.oracle.collections.get_mut(&name)
                {
                    c.schema.fields.push(field);
                }
            }
        }
        self.check_structure();
    }

    fn check_structure(&self) {
        let db = self.db();
        let names: Vec<_> = self.oracle.collections.keys().cloned().collect();
        assert_eq!(db.list_collections().expect("an open database lists"), names);
        for (name, wanted) in &self.oracle.collections {
            let stats = db.collection(name).expect("it was listed").stats();
            assert_eq!(stats.pinned, wanted.pinned, "pin of {name}");
            assert_eq!(stats.schema, wanted.schema, "schema of {name}");
        }
        let found: Vec<_> = db.list_snapshots().into_iter().map(|s| (s.name, s.rows)).collect();
        let wanted: Vec<_> =
            self.oracle.snapshots.iter().map(|(n, s)| (n.clone(), s.rows.len() as u64)).collect();
        assert_eq!(found, wanted, "snapshots");
    }

    /// Compares every row of every collection.
    pub(super) fn verify(&mut self) {
        self.check_structure();
        let names: Vec<_> = self.oracle.collections.keys().cloned().collect();
        for name in names {
            self.verify_collection(&name);
        }
    }

    pub(super) fn verify_collection(&mut self, name: &str) {
        let Some(wanted) = self.oracle.collections.get(name) else { return };
        let collection = self.db().collection(name).expect("it is in the oracle");
        let Some(found) = scan_all(&collection, 7) else {
            // Faults may fail a read (or the promotion before it), never spoil it.
            let fine = !self.world.sim.is_powered() || self.fault_fired();
            assert!(fine, "a scan of {name} fails though nothing is wrong");
            return;
        };
        assert!(
            found == wanted.rows,
            "{name} differs from the oracle at LSN {}; it would be right at LSNs {:?}\n{}",
            self.oracle.last_lsn,
            self.oracle.prefixes_like(name, &found),
            difference(&found, &wanted.rows),
        );
    }

    /// Counts the work of the database that is about to end.
    fn note_work(&mut self) {
        let stats = self.db().stats();
        self.tally.flushes += stats.flushes;
        self.tally.compactions += stats.compactions;
    }
}

/// Every row, by pages; `None` if a page fails.
pub fn scan_all(collection: &Collection, page: usize) -> Option<Rows> {
    let mut rows = Rows::new();
    let mut after: Option<Cursor> = None;
    loop {
        let mut scan = collection.scan().limit(page).with_vectors(true);
        if let Some(cursor) = after.take() {
            scan = scan.after(cursor);
        }
        let page = scan.run().ok()?;
        let before = rows.len();
        let count = page.records.len();
        rows.extend(rows_of(page.records));
        assert_eq!(rows.len(), before + count, "a scan repeats an id");
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => return Some(rows),
        }
    }
}

/// The rows that differ, in words.
pub fn difference(found: &Rows, wanted: &Rows) -> String {
    let mut lines = String::new();
    for (id, row) in wanted {
        match found.get(id) {
            None => lines += &format!("  missing {id}: {row:?}\n"),
            Some(other) if other != row => {
                lines += &format!("  {id}: found {other:?}, not {row:?}\n");
            }
            Some(_) => {}
        }
    }
    for (id, row) in found.iter().filter(|(id, _)| !wanted.contains_key(*id)) {
        lines += &format!("  extra {id}: {row:?}\n");
    }
    lines
}
