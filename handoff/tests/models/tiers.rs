//! Models of the machine of tiers. `files` stands for what a move works on and what readers of a
//! tier use: two moves at once, or a reader that is not ordered behind the move whose tier it sees,
//! are a race that the checker reports.

use super::play;
use akidb_handoff::{Claim, Refused, Tier, TierCell, TierState, Turn};
use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{JoinHandle, spawn},
};

struct Collection {
    cell: TierCell,
    files: UnsafeCell<()>,
    /// How often data was fetched from the store.
    fetches: AtomicUsize,
}

fn collection(tier: Tier) -> Arc<Collection> {
    let cell = TierCell::new(tier, false);
    Arc::new(Collection { cell, files: UnsafeCell::new(()), fetches: AtomicUsize::new(0) })
}

fn run<T: 'static>(
    collection: &Arc<Collection>,
    work: impl FnOnce(&Collection) -> T + 'static,
) -> JoinHandle<T> {
    let collection = collection.clone();
    spawn(move || work(&collection))
}

impl Collection {
    fn carry_out(&self, claim: Claim<'_>) -> Result<TierState, Refused> {
        self.files.with_mut(|_| ());
        Ok(claim.seal()?.finish())
    }

    fn move_to(&self, to: Tier) -> Result<TierState, Refused> {
        self.carry_out(self.cell.claim(to)?)
    }

    /// As a search that needs local data: promotes, or waits for who does.
    fn fetch(&self, succeeds: bool) -> Result<TierState, Refused> {
        match self.cell.claim_or_wait(Tier::Warm)? {
            Turn::Done(state) => Ok(state),
            Turn::Yours(claim) => {
                self.fetches.fetch_add(1, Ordering::Relaxed);
                if succeeds {
                    return self.carry_out(claim);
                }
                self.files.with_mut(|_| ());
                Err(Refused::Failed { from: claim.from(), to: claim.to() })
            }
        }
    }

    fn fetched(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

/// A demotion and a promotion of one collection: they never work at once, the one that came second
/// is told about the first, and the tier is that of the last that finished.
#[test]
fn of_two_moves_at_once_one_wins_and_the_other_is_told() {
    play(None, || {
        let collection = collection(Tier::Warm);
        let demotion = run(&collection, |collection| collection.move_to(Tier::Cold));
        let promoted = collection.move_to(Tier::Hot);
        let demoted = demotion.join().unwrap();
        let refused = |to| Err(Refused::Moving { from: Tier::Warm, to });
        let state = collection.cell.state();
        match (demoted, promoted) {
            (Ok(_), refusal @ Err(_)) => {
                assert_eq!((refusal, state.tier), (refused(Tier::Cold), Tier::Cold));
            }
            (refusal @ Err(_), Ok(_)) => {
                assert_eq!((refusal, state.tier), (refused(Tier::Hot), Tier::Hot));
            }
            (Ok(demoted), Ok(promoted)) => {
                // One after the other: the later one has the higher generation.
                assert_ne!(demoted.generation, promoted.generation);
                let last = std::cmp::max_by_key(demoted, promoted, |state| state.generation);
                assert_eq!(state, last);
            }
            both => panic!("nobody won: {both:?}"),
        }
        assert_eq!(state.moving_to, None);
    });
}

/// Ten callers in the engine, three here: one does it.
#[test]
fn of_three_demotions_at_once_one_is_done() {
    play(Some(3), || {
        let collection = collection(Tier::Hot);
        let others = [(); 2].map(|()| run(&collection, |c| c.move_to(Tier::Cold)));
        let mine = collection.move_to(Tier::Cold);
        let mut ended = others.map(|other| other.join().unwrap()).to_vec();
        ended.push(mine);
        assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 1, "{ended:?}");
        assert_eq!(collection.cell.state().generation, 1);
    });
}

/// The tier is read without a lock; whoever sees it may use what the move installed.
#[test]
fn a_reader_of_the_tier_sees_what_the_move_installed() {
    play(None, || {
        let collection = collection(Tier::Cold);
        let promotion = run(&collection, |collection| collection.move_to(Tier::Warm));
        if collection.cell.tier() == Tier::Warm {
            collection.files.with(|_| ());
        }
        promotion.join().unwrap().unwrap();
        assert_eq!(collection.cell.tier(), Tier::Warm);
    });
}

/// A pin that was accepted holds: the tier that it reports stays.
#[test]
fn a_pin_that_was_accepted_is_never_overtaken_by_a_demotion() {
    play(None, || {
        let collection = collection(Tier::Warm);
        let demotion = run(&collection, |collection| collection.move_to(Tier::Cold));
        let pinned = collection.cell.pin();
        let demoted = demotion.join().unwrap();
        match pinned {
            Ok(pinned) => assert_eq!(collection.cell.tier(), pinned.tier),
            Err(refused) => {
                assert_eq!(refused, Refused::Moving { from: Tier::Warm, to: Tier::Cold });
                assert!(demoted.is_ok(), "a pin is refused only where the demotion goes through");
            }
        }
    });
}

/// Searches of a cold collection: one fetches, the others get what it fetched.
#[test]
fn who_waits_for_a_promotion_gets_its_end() {
    play(Some(3), || {
        let collection = collection(Tier::Cold);
        let others = [(); 2].map(|()| run(&collection, |collection| collection.fetch(true)));
        let mine = collection.fetch(true);
        for end in others.map(|other| other.join().unwrap()).into_iter().chain([mine]) {
            assert_eq!(end.map(|state| state.tier), Ok(Tier::Warm));
        }
        assert_eq!(collection.fetched(), 1);
    });
}

/// The same when the store is down: nobody waits for ever, nobody is told that it worked, and who
/// waited does not ask the store again.
#[test]
fn who_waits_for_a_promotion_that_fails_is_told() {
    play(None, || {
        let collection = collection(Tier::Cold);
        let other = run(&collection, |collection| collection.fetch(false));
        let waited = collection.cell.state().moving_to.is_some();
        let mine = collection.fetch(false);
        let failed = Err(Refused::Failed { from: Tier::Cold, to: Tier::Warm });
        assert_eq!((mine, other.join().unwrap()), (failed, failed));
        assert_eq!(collection.cell.tier(), Tier::Cold);
        let fetched = collection.fetched();
        assert!((1..=2).contains(&fetched), "{fetched}, {waited}");
    });
}

/// A worker decides on what it saw; a person moves the collection; the worker does not undo it.
#[test]
fn a_decision_on_an_older_state_never_undoes_a_manual_move() {
    play(None, || {
        let collection = collection(Tier::Warm);
        let decided_at = collection.cell.state().generation;
        let worker = run(&collection, move |collection| {
            collection.carry_out(collection.cell.claim_at(decided_at, Tier::Cold)?)
        });
        let manual = collection.move_to(Tier::Hot);
        let worked = worker.join().unwrap();
        if manual.is_ok() {
            assert_eq!(collection.cell.tier(), Tier::Hot, "{worked:?}");
        }
    });
}

/// A drop or a close returns when nothing is at work any more, and nothing begins after it.
#[test]
fn a_close_waits_for_the_move_and_lets_none_begin() {
    play(None, || {
        let collection = collection(Tier::Hot);
        let demotion = run(&collection, |collection| collection.move_to(Tier::Cold));
        collection.cell.close();
        collection.files.with_mut(|_| ());
        let tier = collection.cell.tier();
        let demoted = demotion.join().unwrap();
        assert_eq!(collection.cell.tier(), tier, "{demoted:?}");
    });
}
