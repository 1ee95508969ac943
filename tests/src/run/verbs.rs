//! The verbs: what the oracle says each must answer, and the comparison.

use super::{Pending, Runner};
use crate::{
    condition::{Condition, field_def},
    ops::{Op, Step},
    oracle::{Change, Row, Rows, Snapshot, check_found, check_hits},
};
use akidb::{
    Durability, Error, ErrorKind, Metadata, Point, PointId, Receipt, Result, Schema,
    blocking::Collection,
};
use akidb_vfs::Clock;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

impl Runner {
    pub(super) fn verb(&mut self, step: &Step) {
        let name = step.collection.as_str();
        match &step.op {
            Op::Create(schema) => return self.create(name, schema),
            Op::Restore(snapshot) => return self.restore(snapshot, name),
            Op::DeleteSnapshot(snapshot) => return self.delete_snapshot(snapshot),
            Op::DropCollection => return self.drop_collection(name),
            Op::Verify => return self.verify(),
            Op::Flush(true) => return self.maintain(self.db().flush()),
            Op::Compact(true) => return self.maintain(self.db().compact()),
            _ => {}
        }
        let known = self.oracle.collections.contains_key(name);
        let collection = match self.db().collection(name) {
            Ok(collection) => collection,
            Err(error) => {
                assert!(!known, "{name} is gone: {error}");
                return assert_eq!(error.kind(), ErrorKind::NotFound);
            }
        };
        assert!(known, "{name} was dropped or never created");
        match &step.op {
            Op::Upsert(points, durability) => {
                let result = collection.upsert(points.clone()).durability(*durability).run();
                self.written(name, result, Change::put(points), *durability);
            }
            Op::Insert(points, durability) => self.insert(&collection, points, *durability),
            Op::Update(patches, durability) => self.update(&collection, patches, *durability),
            Op::Delete(ids, durability) => {
                let result = collection.delete(ids.clone()).durability(*durability).run();
                let change = Change::Delete(ids.iter().cloned().collect());
                self.written(name, result, change, *durability);
            }
            Op::DeleteWhere(condition, durability) => {
                self.delete_where(&collection, condition, *durability);
            }
            Op::Get(ids) => self.get(&collection, ids),
            Op::Scan(limit, condition) => self.scan(&collection, *limit, condition.as_ref()),
            Op::Count(condition) => self.count(&collection, condition.as_ref()),
            Op::Search(queries) => self.search(&collection, queries),
            Op::AddField(index) => self.add_field(&collection, *index),
            Op::Flush(_) => self.maintain(collection.flush()),
            Op::Compact(_) => self.maintain(collection.compact()),
            Op::Demote => self.demote(&collection),
            Op::Promote => self.promote(&collection),
            Op::Pin(pinned) => self.pin(&collection, *pinned),
            Op::Snapshot(snapshot) => self.snapshot(&collection, snapshot),
            _ => unreachable!("handled above or by the runner"),
        }
    }

    fn rows(&self, name: &str) -> &Rows {
        &self.oracle.collections.get(name).expect("checked by the caller").rows
    }

    fn matching(&self, name: &str, condition: Option<&Condition>) -> BTreeMap<PointId, &Row> {
        let fits = |row: &Row| condition.is_none_or(|condition| condition.matches(&row.metadata));
        let rows = self.rows(name).iter().filter(|(_, row)| fits(row));
        rows.map(|(id, row)| (id.clone(), row)).collect()
    }

    /// Books a write that nothing speaks against.
    fn written(&mut self, name: &str, result: Result<Receipt>, change: Change, asked: Durability) {
        match result {
            Ok(receipt) => {
                assert_eq!(receipt.rows, change.rows(), "rows in the receipt");
                self.oracle.commit(name, receipt.lsn, change);
                self.reached(receipt, asked);
            }
            Err(error) => self.failed(&error, Pending::Write(name.to_owned(), change)),
        }
    }

    fn reached(&mut self, receipt: Receipt, asked: Durability) {
        let rank = |durability| match durability {
            Durability::Sync => 2,
            Durability::Interval { .. } => 1,
            Durability::Memory => 0,
        };
        assert!(rank(receipt.durability) >= rank(asked), "asked for {asked:?}, got {receipt:?}");
        self.oracle.acknowledged_at(receipt.durability);
        self.ticked = true;
        match receipt.durability {
            Durability::Sync => self.oracle.durable(receipt.lsn),
            Durability::Interval { ms } => {
                self.oracle.written_lsn = receipt.lsn;
                let due = self.world.clock.monotonic() + Duration::from_millis(ms);
                self.intervals.push((due, receipt.lsn));
            }
            Durability::Memory => {}
        }
    }

    /// A call that must be refused was; or a fault came first.
    fn refused<T: std::fmt::Debug>(&mut self, result: Result<T>, kind: ErrorKind) {
        match result {
            Ok(value) => panic!("{kind:?} was due, not {value:?}"),
            Err(error) if error.kind() == kind => {}
            Err(error) => self.failed(&error, Pending::Nothing),
        }
    }

    /// The value of a call that changes no row; a failure is excused as usual.
    fn read<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error: Error| self.failed(&error, Pending::Nothing)).ok()
    }

    fn maintain(&mut self, result: Result<()>) {
        self.read(result);
    }

    fn insert(&mut self, collection: &Collection, points: &[Point], durability: Durability) {
        let name = collection.name();
        let exists = points.iter().any(|point| self.rows(name).contains_key(&point.id));
        let result = collection.insert(points.to_vec()).durability(durability).run();
        if exists {
            return self.refused(result, ErrorKind::AlreadyExists);
        }
        self.written(name, result, Change::put(points), durability);
    }

    fn update(&mut self, collection: &Collection, patches: &[(PointId, Value)], asked: Durability) {
        let name = collection.name();
        let result = collection.update_metadata(patches.to_vec()).durability(asked).run();
        let mut put: BTreeMap<PointId, (Vec<f32>, Metadata)> = BTreeMap::new();
        for (id, patch) in patches {
            let Some(row) = self.rows(name).get(id) else {
                return self.refused(result, ErrorKind::NotFound);
            };
            let (_, metadata) =
                put.entry(id.clone()).or_insert((row.vector.clone(), row.metadata.clone()));
            for (key, value) in patch.as_object().expect("a patch is an object") {
                if value.is_null() {
                    metadata.remove(key);
                } else {
                    metadata.insert(key.clone(), value.clone());
                }
            }
        }
        self.written(name, result, Change::Put(put), asked);
    }

    fn delete_where(&mut self, collection: &Collection, condition: &Condition, asked: Durability) {
        let name = collection.name();
        let ids: std::collections::BTreeSet<_> =
            self.matching(name, Some(condition)).into_keys().collect();
        let result = collection.delete_where(condition.to_filter()).durability(asked).run();
        if ids.is_empty() {
            if let Some(receipt) = self.read(result) {
                assert_eq!(receipt.rows, 0, "nothing matches {condition:?}");
            }
            return;
        }
        self.written(name, result, Change::Delete(ids), asked);
    }

    fn get(&mut self, collection: &Collection, ids: &[PointId]) {
        let Some(found) = self.read(collection.get(ids.to_vec())) else { return };
        assert_eq!(found.len(), ids.len(), "an answer for each id");
        for (id, record) in ids.iter().zip(found) {
            let found = record.map(|r| {
                assert_eq!(r.id, *id);
                Row { vector: r.vector, metadata: r.metadata, lsn: r.lsn }
            });
            assert_eq!(found.as_ref(), self.rows(collection.name()).get(id), "get {id}");
        }
    }

    fn scan(&mut self, collection: &Collection, limit: usize, condition: Option<&Condition>) {
        let mut ids = Vec::new();
        let mut after = None;
        loop {
            let mut scan = collection.scan().limit(limit);
            if let Some(condition) = condition {
                scan = scan.filter(condition.to_filter());
            }
            if let Some(cursor) = after.take() {
                scan = scan.after(cursor);
            }
            let Some(page) = self.read(scan.run()) else { return };
            assert!(page.records.len() <= limit, "a page of {}", page.records.len());
            ids.extend(page.records.into_iter().map(|record| record.id));
            match page.next {
                Some(cursor) => after = Some(cursor),
                None => break,
            }
        }
        let wanted: Vec<_> = self.matching(collection.name(), condition).into_keys().collect();
        assert_eq!(ids, wanted, "scan of {condition:?}");
    }

    fn count(&mut self, collection: &Collection, condition: Option<&Condition>) {
        let filter = condition.map(Condition::to_filter);
        let Some(found) = self.read(collection.count(filter.as_ref())) else { return };
        let wanted = self.matching(collection.name(), condition).len() as u64;
        assert_eq!(found, wanted, "count of {condition:?}");
    }

    fn search(
        &mut self,
        collection: &Collection,
        queries: &[(Vec<f32>, usize, Option<Condition>)],
    ) {
        for exact in [true, false] {
            let requests = queries.iter().map(|(query, k, condition)| {
                let search = collection.search(query).k(*k).exact(exact);
                let search = search.with_vectors(true).with_metadata(true);
                match condition {
                    Some(condition) => search.filter(condition.to_filter()),
                    None => search,
                }
            });
            let Some(answers) = self.read(collection.search_batch(requests)) else { return };
            assert_eq!(answers.len(), queries.len(), "an answer for each query");
            let schema = &self.oracle.collections[collection.name()].schema;
            for ((query, k, condition), hits) in queries.iter().zip(answers) {
                let rows = self.matching(collection.name(), condition.as_ref());
                let checked = if exact {
                    check_hits(schema, &rows, query, *k, &hits)
                } else {
                    check_found(schema, &rows, query, *k, &hits).map(drop)
                };
                if let Err(wrong) = checked {
                    panic!("search {query:?} k {k} {condition:?} exact {exact}: {wrong}\n{hits:?}");
                }
            }
        }
    }

    fn add_field(&mut self, collection: &Collection, index: usize) {
        let (name, field) = (collection.name(), field_def(index));
        let result = collection.add_field(&field.name, field.field_type);
        let schema = &mut self.oracle.collections.get_mut(name).expect("known").schema;
        if schema.field_type(&field.name).is_some() {
            return self.refused(result, ErrorKind::InvalidInput);
        }
        match result {
            Ok(()) => schema.fields.push(field),
            Err(error) => self.failed(&error, Pending::AddField(name.to_owned(), field)),
        }
    }

    fn demote(&mut self, collection: &Collection) {
        let name = collection.name();
        let result = collection.demote();
        if self.oracle.collections[name].pinned {
            return self.refused(result, ErrorKind::InvalidInput);
        }
        let Some(moved) = self.read(result) else { return };
        self.tally.demotions += u64::from(moved);
        let stats = collection.stats();
        assert_eq!(stats.local_rows, 0, "rows stay local after a demotion: {stats:?}");
        let cold: u64 = stats.cold.iter().map(|object| object.rows).sum();
        assert_eq!(cold, self.rows(name).len() as u64, "rows in cold objects: {stats:?}");
    }

    fn promote(&mut self, collection: &Collection) {
        let Some(moved) = self.read(collection.promote()) else { return };
        self.tally.promotions += u64::from(moved);
        let stats = collection.stats();
        assert!(stats.cold.is_empty(), "still cold: {stats:?}");
        assert_eq!(stats.local_rows, self.rows(collection.name()).len() as u64, "{stats:?}");
    }

    fn pin(&mut self, collection: &Collection, pinned: bool) {
        let name = collection.name().to_owned();
        match collection.pin(pinned) {
            Ok(()) => {
                self.oracle.collections.get_mut(&name).expect("known").pinned = pinned;
            }
            Err(error) => self.failed(&error, Pending::Pin(name, pinned)),
        }
    }

    fn snapshot(&mut self, collection: &Collection, snapshot: &str) {
        let result = collection.snapshot(snapshot);
        if self.oracle.snapshots.contains_key(snapshot) {
            return self.refused(result, ErrorKind::AlreadyExists);
        }
        let known = &self.oracle.collections[collection.name()];
        let (schema, rows) = (known.schema.clone(), known.rows.clone());
        let lsn = rows.values().map(|row| row.lsn).max().unwrap_or(0);
        let taken = Snapshot { schema, rows, lsn };
        match result {
            Ok(info) => {
                assert_eq!(info.rows, taken.rows.len() as u64, "rows in the snapshot");
                self.oracle.snapshots.insert(snapshot.to_owned(), taken);
            }
            Err(error) => self.failed(&error, Pending::Snapshot(snapshot.to_owned(), taken)),
        }
    }

    fn restore(&mut self, snapshot: &str, name: &str) {
        let result = self.db().restore_snapshot(snapshot, name).map(drop);
        let Some(taken) = self.oracle.snapshots.get(snapshot).cloned() else {
            return self.refused(result, ErrorKind::NotFound);
        };
        if self.oracle.collections.contains_key(name) {
            return self.refused(result, ErrorKind::AlreadyExists);
        }
        match result {
            Ok(()) => {
                self.tally.restores += 1;
                self.oracle.create(name, taken.schema, taken.rows);
            }
            Err(error) => {
                self.failed(&error, Pending::Create(name.to_owned(), taken.schema, taken.rows));
            }
        }
    }

    fn delete_snapshot(&mut self, snapshot: &str) {
        let result = self.db().delete_snapshot(snapshot);
        if !self.oracle.snapshots.contains_key(snapshot) {
            return self.refused(result, ErrorKind::NotFound);
        }
        match result {
            Ok(()) => drop(self.oracle.snapshots.remove(snapshot)),
            Err(error) => self.failed(&error, Pending::DeleteSnapshot(snapshot.to_owned())),
        }
    }

    fn create(&mut self, name: &str, schema: &Schema) {
        let result = self.db().create_collection(name, schema.clone()).map(drop);
        if self.oracle.collections.contains_key(name) {
            return self.refused(result, ErrorKind::AlreadyExists);
        }
        match result {
            Ok(()) => self.oracle.create(name, schema.clone(), Rows::new()),
            Err(error) => {
                self.failed(&error, Pending::Create(name.to_owned(), schema.clone(), Rows::new()));
            }
        }
    }

    fn drop_collection(&mut self, name: &str) {
        let result = self.db().drop_collection(name);
        if !self.oracle.collections.contains_key(name) {
            return self.refused(result, ErrorKind::NotFound);
        }
        match result {
            Ok(()) => drop(self.oracle.collections.remove(name)),
            Err(error) => self.failed(&error, Pending::Drop(name.to_owned())),
        }
    }
}
