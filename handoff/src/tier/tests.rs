//! The machine of tiers as a specification, one thread at a time; every order of threads is the
//! business of the models.

use super::*;
use proptest::prelude::*;

#[test]
fn a_move_that_is_given_up_leaves_the_tier_as_it_was() {
    let cell = TierCell::new(Tier::Hot, false);
    drop(cell.claim(Tier::Cold).unwrap());
    let sealed = cell.claim(Tier::Cold).unwrap().seal().unwrap();
    assert_eq!(cell.state().moving_to, Some(Tier::Cold));
    drop(sealed);
    let before = TierCell::new(Tier::Hot, false).state();
    assert_eq!(cell.state(), before, "nothing of it is left, not even a generation");
}

#[test]
fn a_pin_stops_a_demotion_until_it_is_sealed_and_never_a_promotion() {
    let cell = TierCell::new(Tier::Warm, false);
    let demotion = cell.claim(Tier::Cold).unwrap();
    assert!(cell.pin().unwrap().pinned);
    assert_eq!(demotion.seal().unwrap_err(), Refused::Pinned { tier: Tier::Warm });
    assert_eq!(cell.claim(Tier::Cold).unwrap_err(), Refused::Pinned { tier: Tier::Warm });
    assert_eq!(cell.claim(Tier::Hot).unwrap().seal().unwrap().finish().tier, Tier::Hot);
    cell.unpin().unwrap();
    let sealed = cell.claim(Tier::Cold).unwrap().seal().unwrap();
    assert_eq!(cell.pin().unwrap_err(), Refused::Moving { from: Tier::Hot, to: Tier::Cold });
    sealed.finish();
    assert!(!cell.state().pinned && cell.tier() == Tier::Cold);
}

#[test]
fn a_decision_on_an_older_state_is_refused() {
    let cell = TierCell::new(Tier::Hot, false);
    let decided_at = cell.state().generation;
    cell.pin().unwrap();
    cell.unpin().unwrap();
    let refused = cell.claim_at(decided_at, Tier::Warm).unwrap_err();
    assert_eq!(refused, Refused::Changed { tier: Tier::Hot });
    assert!(cell.claim_at(cell.state().generation, Tier::Warm).is_ok());
    cell.pin().unwrap();
    let pinned_at = cell.state().generation;
    cell.pin().unwrap();
    assert_eq!(cell.state().generation, pinned_at, "pinning twice changes nothing");
}

#[test]
fn who_needs_local_data_claims_the_promotion_or_finds_it_done() {
    let cell = TierCell::new(Tier::Cold, true);
    let Turn::Yours(claim) = cell.claim_or_wait(Tier::Warm).unwrap() else {
        panic!("a pin does not keep data cold");
    };
    assert_eq!((claim.from(), claim.to()), (Tier::Cold, Tier::Warm));
    claim.seal().unwrap().finish();
    assert!(matches!(cell.claim_or_wait(Tier::Warm), Ok(Turn::Done(_))));
    cell.claim(Tier::Hot).unwrap().seal().unwrap().finish();
    assert!(matches!(cell.claim_or_wait(Tier::Warm), Ok(Turn::Done(_))), "hot is nearer");
    assert!(matches!(cell.claim_or_wait(Tier::Hot), Ok(Turn::Done(_))));
}

#[test]
fn nothing_begins_or_is_sealed_after_a_close() {
    let cell = TierCell::new(Tier::Hot, false);
    cell.close();
    for refused in [
        cell.claim(Tier::Cold).err(),
        cell.claim_at(0, Tier::Warm).err(),
        cell.claim_or_wait(Tier::Hot).err(),
        cell.pin().err(),
        cell.unpin().err(),
    ] {
        assert_eq!(refused, Some(Refused::Closed));
    }
    assert_eq!(cell.tier(), Tier::Hot, "where it was can still be read");
}

/// What a caller can do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim(Tier),
    /// On a generation this far behind.
    ClaimAt(u64, Tier),
    Seal,
    Finish,
    GiveUp,
    Pin,
    Unpin,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tier = prop::sample::select(&Tier::ALL[..]);
    prop::collection::vec(
        prop_oneof![
            3 => tier.clone().prop_map(Step::Claim),
            1 => (0_u64..3, tier).prop_map(|(behind, tier)| Step::ClaimAt(behind, tier)),
            3 => Just(Step::Seal),
            3 => Just(Step::Finish),
            1 => Just(Step::GiveUp),
            1 => Just(Step::Pin),
            2 => Just(Step::Unpin),
        ],
        0..60,
    )
}

/// The move that a caller of the machine holds.
enum Held<'a> {
    None,
    Claimed(Claim<'a>),
    Sealed(Sealed<'a>),
}

/// The rules once more, as plainly as possible: what a claim must answer.
fn expected(state: TierState, to: Tier) -> Result<(), Refused> {
    match state {
        TierState { tier: from, moving_to: Some(to), .. } => Err(Refused::Moving { from, to }),
        TierState { tier, .. } if tier == to => Err(Refused::Already { tier }),
        TierState { tier, pinned: true, .. } if to > tier => Err(Refused::Pinned { tier }),
        _ => Ok(()),
    }
}

proptest! {
    #[test]
    fn every_program_of_moves_and_pins_keeps_the_rules(steps in steps(), start in 0_usize..3) {
        let cell = TierCell::new(Tier::ALL[start], false);
        let mut model = cell.state();
        let mut held = Held::None;
        for step in steps {
            match step {
                Step::Claim(to) => match (cell.claim(to), expected(model, to)) {
                    (Ok(claim), Ok(())) => {
                        held = Held::Claimed(claim);
                        model.moving_to = Some(to);
                    }
                    (got, want) => prop_assert_eq!(got.err(), want.err()),
                },
                Step::ClaimAt(behind, to) => {
                    let generation = model.generation.saturating_sub(behind);
                    let want = match generation == model.generation {
                        true => expected(model, to),
                        false => Err(Refused::Changed { tier: model.tier }),
                    };
                    match (cell.claim_at(generation, to), want) {
                        (Ok(claim), Ok(())) => {
                            held = Held::Claimed(claim);
                            model.moving_to = Some(to);
                        }
                        (got, want) => prop_assert_eq!(got.err(), want.err()),
                    }
                }
                Step::Seal => {
                    held = match std::mem::replace(&mut held, Held::None) {
                        Held::Claimed(claim) => {
                            let stopped = model.pinned && claim.to() > model.tier;
                            match claim.seal() {
                                Ok(sealed) => {
                                    prop_assert!(!stopped);
                                    Held::Sealed(sealed)
                                }
                                Err(refused) => {
                                    prop_assert_eq!(refused, Refused::Pinned { tier: model.tier });
                                    prop_assert!(stopped);
                                    model.moving_to = None;
                                    Held::None
                                }
                            }
                        }
                        other => other,
                    };
                }
                Step::Finish => match std::mem::replace(&mut held, Held::None) {
                    Held::Sealed(sealed) => {
                        let to = model.moving_to.take().unwrap();
                        model.tier = to;
                        model.generation += 1;
                        prop_assert_eq!(sealed.finish(), model);
                    }
                    other => held = other,
                },
                Step::GiveUp => {
                    held = Held::None;
                    model.moving_to = None;
                }
                Step::Pin => {
                    let demotion = model.moving_to.is_some_and(|to| to > model.tier);
                    let sealed = matches!(held, Held::Sealed(_));
                    let pinned = cell.pin();
                    prop_assert_eq!(pinned.is_err(), demotion && sealed);
                    if pinned.is_ok() && !model.pinned {
                        model.pinned = true;
                        model.generation += 1;
                    }
                }
                Step::Unpin => {
                    cell.unpin().unwrap();
                    model.generation += u64::from(model.pinned);
                    model.pinned = false;
                }
            }
            prop_assert_eq!(cell.state(), model);
        }
    }

    #[test]
    fn what_readers_see_is_what_was_stored(
        tier in 0_usize..3,
        moving in 0_usize..4,
        pinned: bool,
        generation in 0_u64..1 << 59,
    ) {
        let moving_to = Tier::ALL.get(moving).copied();
        let state = TierState { tier: Tier::ALL[tier], moving_to, pinned, generation };
        prop_assert_eq!(unpack(pack(&state)), state);
    }
}
