//! What is known of a database from outside: what its writers asked for and were told, and what
//! was found in it last. Compares that with what a child found after a crash. Called after kills of
//! processes and after losses of a whole machine, which differ in what must survive.

use super::{
    child::{WRITERS, log_path},
    life::{self, Call, Level, MOVED, MOVING, Row, Rows, WRITER_IDS, changed, prefixes, promised},
};
use crate::evidence::Counts;
use std::{collections::BTreeSet, path::Path};

/// What exists besides rows, and once told must stay: names as a child prints them.
#[derive(Clone, Debug, Default)]
struct Extras {
    /// Acknowledged.
    told: BTreeSet<String>,
    /// Asked to go, so that both is right.
    dropped: BTreeSet<String>,
}

/// What one life is measured by.
#[derive(Clone, Debug)]
pub(in crate::evidence) struct Witness {
    /// The rows of each writer as they were found last.
    rows: Vec<Rows>,
    extras: Extras,
    /// Levels whose acknowledged writes must be found.
    survive: &'static [Level],
}

impl Witness {
    /// Of an empty database.
    pub(in crate::evidence) fn new(survive: &'static [Level]) -> Self {
        Self { rows: vec![Rows::new(); WRITERS as usize], extras: Extras::default(), survive }
    }

    /// Is what was found what was promised?
    ///
    /// # Errors
    /// What is missing, or was never written, or does not fit together.
    pub(in crate::evidence) fn compare(
        &mut self,
        life: &Path,
        round: u64,
        found: &str,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let (rows, names) = parse_found(found)?;
        self.look_at_names(life, round, &names)?;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let calls = read_calls(life, round, &writer.to_string())?;
            let calls = life::parse(&calls)?;
            let before = self.rows.get(writer as usize).cloned().unwrap_or_default();
            let now: Rows =
                rows.iter().filter(|(id, _)| **id / WRITER_IDS == writer).map(copied).collect();
            writers.push(Writer::new(writer, &before, calls, &now, self.survive)?);
            if let Some(known) = self.rows.get_mut(writer as usize) {
                *known = now;
            }
        }
        one_prefix(&writers)?;
        for writer in &writers {
            writer.count(counts);
        }
        let log = read_calls(life, round, "maintenance")?;
        let last = log.split_inclusive('\n').rfind(|line| [MOVING, MOVED].contains(line));
        counts.add("kills within a move", u64::from(last == Some(MOVING)));
        counts.add("moves", log.matches(MOVED).count() as u64);
        Ok(())
    }

    /// Is what the bucket alone gave, after a kill, something that was shipped? Every snapshot that was told,
    /// and of each writer's rows those that it had at some time, or none where nothing is cold.
    ///
    /// # Errors
    /// What is missing or was never written.
    pub(super) fn look_shipped(
        &mut self,
        life: &Path,
        round: u64,
        found: &str,
    ) -> Result<(), String> {
        let (rows, names) = parse_found(found)?;
        let lost = |name: &String| name.starts_with("snapshot ") && !names.contains(name);
        if let Some(name) = self.wanted(life, round)?.into_iter().find(lost) {
            return Err(format!("{name:?} was acknowledged and is not in the bucket"));
        }
        for writer in 0..WRITERS {
            let calls = life::parse(&read_calls(life, round, &writer.to_string())?)?;
            let before = self.rows.get(writer as usize).cloned().unwrap_or_default();
            let shipped: Rows =
                rows.iter().filter(|(id, _)| **id / WRITER_IDS == writer).map(copied).collect();
            if !shipped.is_empty() && prefixes(&before, &calls, &shipped).is_empty() {
                return Err(format!("writer {writer} never had what the bucket has: {shipped:?}"));
            }
        }
        Ok(())
    }

    /// Fields and snapshots that were told are there.
    fn look_at_names(
        &mut self,
        life: &Path,
        round: u64,
        found: &BTreeSet<String>,
    ) -> Result<(), String> {
        match self.wanted(life, round)?.into_iter().find(|name| !found.contains(name)) {
            Some(name) => Err(format!("{name:?} was acknowledged and is gone")),
            None => Ok(()),
        }
    }

    /// What must be there besides rows, with what was told in this round.
    fn wanted(&mut self, life: &Path, round: u64) -> Result<BTreeSet<String>, String> {
        let log = read_calls(life, round, "maintenance")?;
        for line in log.split_inclusive('\n').filter(|line| ![MOVING, MOVED].contains(line)) {
            let line = line.trim_end();
            match line.strip_prefix("dropped ") {
                Some(name) => drop(self.extras.dropped.insert(format!("snapshot {name}"))),
                None => drop(self.extras.told.insert(line.to_owned())),
            }
        }
        Ok(self.extras.told.difference(&self.extras.dropped).cloned().collect())
    }
}

fn copied((id, row): (&u64, &Row)) -> (u64, Row) {
    (*id, *row)
}

/// The lines of a log that a child may not have come to begin; without a last one that was cut.
fn read_calls(dir: &Path, round: u64, who: &str) -> Result<String, String> {
    let path = log_path(dir, round, who);
    match akidb_vfs::read_file(&akidb_vfs::RealFs, &path) {
        Ok(bytes) => {
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
            Ok(text)
        }
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a child printed: rows, and the names of everything else.
fn parse_found(text: &str) -> Result<(Rows, BTreeSet<String>), String> {
    let (mut rows, mut names) = (Rows::new(), BTreeSet::new());
    let whole = text.strip_suffix("end\n").ok_or_else(|| format!("it only said {text:?}"))?;
    for line in whole.lines() {
        let Some(row) = line.strip_prefix("row ") else {
            names.insert(line.to_owned());
            continue;
        };
        let numbers: Vec<u64> = row.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [id, version, update] = numbers.as_slice() else {
            return Err(format!("it said {line:?}"));
        };
        rows.insert(*id, Row { version: *version, update: *update });
    }
    Ok((rows, names))
}

/// One writer's calls, and which prefixes of them were found.
struct Writer {
    calls: Vec<Call>,
    fitting: Vec<usize>,
}

impl Writer {
    fn new(
        writer: u64,
        before: &Rows,
        calls: Vec<Call>,
        found: &Rows,
        survive: &[Level],
    ) -> Result<Self, String> {
        let all = prefixes(before, &calls, found);
        let least = promised(&calls, survive);
        let fitting: Vec<usize> = all.iter().copied().filter(|length| *length >= least).collect();
        if fitting.is_empty() {
            let last = calls.get(least.saturating_sub(1));
            return Err(format!(
                "writer {writer} made {} calls, {least} of them must be kept, the last {last:?}; \
                 what is there fits {all:?}: {found:?}",
                calls.len()
            ));
        }
        Ok(Self { calls, fitting })
    }

    /// Can it be that all its calls up to this LSN were kept, and none after?
    fn fits(&self, lsn: u64) -> bool {
        self.fitting.iter().any(|length| {
            let (kept, lost) = self.calls.split_at(*length);
            kept.iter().filter_map(changed).all(|kept| kept <= lsn)
                && lost.iter().filter_map(changed).all(|lost| lost > lsn)
        })
    }

    fn count(&self, counts: &mut Counts) {
        let kept = self.fitting.last().copied().unwrap_or(0);
        let is = |level| move |call: &&Call| call.level == level && call.acknowledged.is_some();
        for (name, level) in Level::ALL {
            let count = self.calls.iter().filter(is(level)).count();
            counts.add(&format!("acknowledged at {name}"), count as u64);
        }
        let (kept, lost) = self.calls.split_at(kept);
        let unsure = kept.iter().filter(|call| call.acknowledged.is_none()).count();
        counts.add("kept before they were acknowledged", unsure as u64);
        let lost = lost.iter().filter(|call| changed(call).is_some()).count();
        counts.add("lost as their level allows", lost as u64);
    }
}

/// The writes of all writers that were kept are those up to one LSN.
fn one_prefix(writers: &[Writer]) -> Result<(), String> {
    let all = writers.iter().flat_map(|writer| writer.calls.iter().filter_map(changed));
    let candidates: BTreeSet<u64> = all.chain([0]).collect();
    let found = candidates.iter().rev().any(|lsn| writers.iter().all(|writer| writer.fits(*lsn)));
    if found { Ok(()) } else { Err("each writer has a prefix, but not all the same".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{super::life::Op, *};

    fn writer(lsns: &[u64], fitting: &[usize]) -> Writer {
        let call = |lsn: &u64| Call {
            op: Op::Delete(vec![1]),
            level: Level::Memory,
            acknowledged: Some(*lsn),
        };
        Writer { calls: lsns.iter().map(call).collect(), fitting: fitting.to_vec() }
    }

    #[test]
    fn writers_that_kept_different_prefixes_are_told_from_those_that_kept_one() {
        let both = |first: &[usize], second: &[usize]| {
            one_prefix(&[writer(&[1, 3, 5], first), writer(&[2, 4, 6], second)])
        };
        assert_eq!(both(&[3], &[3]), Ok(()));
        assert_eq!(both(&[2], &[1]), Ok(()), "up to 3");
        assert_eq!(both(&[0], &[0]), Ok(()));
        assert!(both(&[1], &[2]).is_err(), "4 without 3");
        assert_eq!(both(&[1, 2], &[2]), Ok(()), "rows alone do not tell 1 from 3");
    }

    #[test]
    fn output_that_breaks_off_is_no_answer() {
        assert!(parse_found("row 1 2 3\n").is_err());
        assert!(parse_found("row 1 2\nend\n").is_err());
        let (rows, names) = parse_found("row 1 2 3\nsnapshot s\nend\n").unwrap();
        assert_eq!(rows.get(&1), Some(&Row { version: 2, update: 3 }));
        assert!(names.contains("snapshot s"));
    }
}
