//! The hash table from id to row: open addressing with linear probing, at most 0.7 full. A slot is
//! a fingerprint of the id's hash (`u32`) and the row plus one (`u32`, 0 for an empty slot), so
//! that asking for an id that is not there costs one or two cache lines and no look at the ids.
//!
//! Owns the place of an id in the table. The hash is XXH3 (64 bits) of the id's byte form, its high
//! bits choose the first slot, its low 32 bits are the fingerprint. Called by the writer
//! ([`build`]) and the reader ([`check`], [`candidates`]), which compares the ids of candidates.

#![deny(clippy::indexing_slicing)]

use super::items::ItemsBuilder;
use crate::PointId;

/// Bytes of a slot.
pub(super) const SLOT_LEN: u64 = 8;

/// How many slots a table of `rows` rows has: none for no rows, else the least number that keeps
/// the table at most 0.7 full and one slot empty, so that every search ends.
pub(super) fn slots_for(rows: u32) -> u64 {
    if rows == 0 { 0 } else { (u64::from(rows) * 10).div_ceil(7).max(u64::from(rows) + 1) }
}

fn home(hash: u64, slots: u64) -> u64 {
    // The product's high half spreads the hash evenly over any number of slots.
    ((u128::from(hash) * u128::from(slots)) >> 64) as u64
}

fn fingerprint(hash: u64) -> u32 {
    (hash & u64::from(u32::MAX)) as u32
}

/// Builds the table.
///
/// # Errors
/// The row whose id an earlier row has.
pub(super) fn build(ids: &ItemsBuilder, rows: u32) -> Result<Vec<[u32; 2]>, u32> {
    let slots = slots_for(rows);
    let mut table = vec![[0_u32; 2]; usize::try_from(slots).expect("slots of rows in memory")];
    for (row, id) in (0_u32..).zip(ids.iter()) {
        let hash = PointId::hash64(id);
        let start = usize::try_from(home(hash, slots)).expect("below the table's length");
        let (before, after) = table.split_at_mut(start);
        for slot in after.iter_mut().chain(before) {
            let [print, next] = *slot;
            if next == 0 {
                *slot = [fingerprint(hash), row + 1];
                break;
            }
            if print == fingerprint(hash) && ids.get((next - 1) as usize) == Some(id) {
                return Err(row);
            }
        }
    }
    Ok(table)
}

fn slots(table: &[u8]) -> &[[u8; 8]] {
    table.as_chunks().0
}

fn decode(slot: [u8; 8]) -> (u32, u32) {
    let value = u64::from_le_bytes(slot);
    (fingerprint(value), (value >> 32) as u32)
}

/// Checks a table that was read: the right length, every row in range, as many as there are rows.
pub(super) fn check(table: &[u8], rows: u32) -> Result<(), String> {
    let found = table.len() as u64;
    if found != slots_for(rows) * SLOT_LEN {
        return Err(format!("the id index has {found} bytes, which does not fit {rows} rows"));
    }
    let mut taken = 0_u64;
    for slot in slots(table) {
        let (_, next) = decode(*slot);
        if next > rows {
            return Err(format!("the id index names row {}, there are {rows}", next - 1));
        }
        taken += u64::from(next != 0);
    }
    if taken == u64::from(rows) {
        Ok(())
    } else {
        Err(format!("the id index holds {taken} rows, there are {rows}"))
    }
}

/// The rows whose id may have this hash, in probing order. `table` has passed [`check`].
pub(super) fn candidates(table: &[u8], hash: u64) -> impl Iterator<Item = u32> {
    let slots = slots(table);
    let start = usize::try_from(home(hash, slots.len() as u64)).unwrap_or(0);
    let (before, after) = slots.split_at_checked(start).unwrap_or_default();
    after
        .iter()
        .chain(before)
        .map(|slot| decode(*slot))
        .take_while(|(_, next)| *next != 0)
        .filter(move |(print, _)| *print == fingerprint(hash))
        .map(|(_, next)| next - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table_of(ids: &[u64]) -> Result<Vec<u8>, u32> {
        let mut items = ItemsBuilder::default();
        for id in ids {
            items.push_with(|out| PointId::from(*id).encode_into(out));
        }
        let table = build(&items, u32::try_from(ids.len()).unwrap())?;
        Ok(bytemuck::cast_slice(&table).to_vec())
    }

    fn hash_of(id: u64) -> u64 {
        PointId::hash64(&PointId::from(id).encode())
    }

    #[test]
    fn every_id_leads_to_its_row_and_others_nowhere() {
        for rows in [0_u64, 1, 2, 3, 7, 8, 1000] {
            let table = table_of(&(0..rows).collect::<Vec<_>>()).unwrap();
            check(&table, u32::try_from(rows).unwrap()).unwrap();
            for id in 0..rows {
                assert!(candidates(&table, hash_of(id)).any(|row| u64::from(row) == id));
            }
            assert_eq!(
                (rows..rows + 1000)
                    .filter(|id| candidates(&table, hash_of(*id)).count() > 0)
                    .count(),
                0
            );
        }
    }

    #[test]
    fn two_rows_of_one_id_are_noticed() {
        assert_eq!(table_of(&[4, 5, 4]), Err(2));
    }

    #[test]
    fn a_table_is_at_most_seven_tenths_full_and_never_full() {
        for rows in (1..2000).chain([u32::MAX - 1]) {
            let slots = slots_for(rows);
            assert!(u64::from(rows) * 10 <= slots * 7 && slots > u64::from(rows), "{rows}");
        }
    }

    proptest! {
        #[test]
        fn hostile_tables_are_refused_or_searchable(table in prop::collection::vec(any::<u8>(), 0..64), rows in 0_u32..8, hash in any::<u64>()) {
            if check(&table, rows).is_ok() {
                prop_assert!(candidates(&table, hash).all(|row| row < rows));
            }
            prop_assert!(candidates(&table, hash).count() <= table.len() / 8);
        }
    }
}
