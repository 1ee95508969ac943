//! What a loss of power leaves: the policies, their counters, and the fate of unsynced names.
//! The fate of a file's bytes is in `inode.rs`.

use super::disk::{DirOp, Disk, NodeId};
use std::ffi::OsString;

/// What survives a crash of the work that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashPolicy {
    /// Nothing: the strictest disk.
    DropAll,
    /// Everything that the cache would have written: what a lucky crash, or a kill of the
    /// process, leaves. Bytes whose sync failed are lost even so.
    KeepAll,
    /// A part, chosen by the simulation's seed: sectors kept, dropped or torn in any order,
    /// lengths kept or not, names remembered or forgotten.
    Random,
}

/// When, within the chosen call, the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PowerMoment {
    /// Before the call has any effect.
    Before,
    /// In the middle: a part of a write has been done. Other calls are atomic: as `Before`.
    Middle,
    /// After the call's whole effect, before its caller hears of it.
    After,
}

/// What crashes have done so far: a test that never loses anything tests nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashEffects {
    /// Unsynced sectors that survived.
    pub sectors_kept: u64,
    /// Unsynced sectors that went back to their last durable bytes.
    pub sectors_dropped: u64,
    /// Unsynced sectors of which only the first part survived.
    pub sectors_torn: u64,
    /// Files that lost a part of their unsynced length.
    pub lengths_lost: u64,
    /// Unsynced creations, removals and renames that survived.
    pub dir_ops_kept: u64,
    /// Unsynced creations, removals and renames that were forgotten.
    pub dir_ops_forgotten: u64,
}

impl Disk {
    /// Loses power: what survives becomes both the live and the durable state.
    pub(super) fn crash(
        &mut self,
        policy: CrashPolicy,
        rng: &mut fastrand::Rng,
        effects: &mut CrashEffects,
    ) {
        let pending = self.take_pending();
        let kept = choose_ops(pending, policy, rng, effects);
        self.settle_names(kept);
        for file in self.files_mut() {
            file.crash(policy, rng, effects);
        }
    }
}

/// The name changes that survive, in their order.
fn choose_ops(
    pending: Vec<DirOp>,
    policy: CrashPolicy,
    rng: &mut fastrand::Rng,
    effects: &mut CrashEffects,
) -> Vec<DirOp> {
    // Half of the random crashes keep a prefix, as a journalling file system does; the others any
    // subset that does not reorder the changes of one name.
    let prefix = rng.bool().then(|| rng.usize(0..=pending.len()));
    let mut forgotten: Vec<(NodeId, OsString)> = Vec::new();
    let mut kept = Vec::new();
    for (at, op) in pending.into_iter().enumerate() {
        let keep = match (policy, prefix) {
            (CrashPolicy::DropAll, _) => false,
            (CrashPolicy::KeepAll, _) => true,
            (CrashPolicy::Random, Some(prefix)) => at < prefix,
            (CrashPolicy::Random, None) => {
                rng.bool() && !op.names().any(|(dir, name)| contains(&forgotten, dir, name))
            }
        };
        if keep {
            effects.dir_ops_kept += 1;
            kept.push(op);
        } else {
            effects.dir_ops_forgotten += 1;
            forgotten.extend(op.names().map(|(dir, name)| (dir, name.clone())));
        }
    }
    kept
}

fn contains(names: &[(NodeId, OsString)], dir: NodeId, name: &OsString) -> bool {
    names.iter().any(|(d, n)| *d == dir && n == name)
}
