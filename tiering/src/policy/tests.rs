//! The policy as a specification: each rule by an example, and what must hold of every plan.

use super::*;
use akidb_handoff::TierCell;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_millis(HOUR_MS);
const NOW: Duration = Duration::from_secs(400 * 86_400);

/// A collection that was last read so long before [`NOW`].
fn candidate(id: u32, tier: Tier, idle: Duration, count: u64) -> Candidate {
    Candidate {
        id,
        state: TierCell::new(tier, false).state(),
        access: Access { count, last: NOW - idle },
        memory_bytes: 10,
        disk_bytes: 10,
        overrides: TierOverrides::default(),
    }
}

fn moves(policy: &TierPolicy, candidates: &[Candidate]) -> Vec<(u32, Tier, MoveReason)> {
    plan(policy, candidates, NOW).iter().map(|m| (m.id, m.to, m.reason)).collect()
}

#[test]
fn idle_collections_go_one_tier_down_at_their_hour_and_not_before() {
    let policy = TierPolicy::default();
    let moment = Duration::from_millis(1);
    let cases = [
        (Tier::Hot, 6 * HOUR - moment, None),
        (Tier::Hot, 6 * HOUR, Some(Tier::Warm)),
        (Tier::Hot, 9_000 * HOUR, Some(Tier::Warm)),
        (Tier::Warm, 7 * 24 * HOUR - moment, None),
        (Tier::Warm, 7 * 24 * HOUR, Some(Tier::Cold)),
        (Tier::Cold, 9_000 * HOUR, None),
    ];
    for (tier, idle, to) in cases {
        let due = to.map(|to| (1, to, MoveReason::Idle));
        let found = moves(&policy, &[candidate(1, tier, idle, 0)]);
        assert_eq!(found, Vec::from_iter(due), "{tier} for {idle:?}");
    }
}

#[test]
fn cold_is_promoted_by_its_first_access_and_warm_by_its_tenth() {
    let policy = TierPolicy::default();
    let cases = [
        (Tier::Cold, 0, None),
        (Tier::Cold, 1, Some((Tier::Warm, MoveReason::Accessed))),
        (Tier::Warm, 9, None),
        (Tier::Warm, 10, Some((Tier::Hot, MoveReason::Busy))),
        (Tier::Hot, 1_000, None),
    ];
    for (tier, count, due) in cases {
        let due = due.map(|(to, reason)| (1, to, reason));
        let found = moves(&policy, &[candidate(1, tier, Duration::ZERO, count)]);
        assert_eq!(found, Vec::from_iter(due), "{tier} after {count}");
    }
}

#[test]
fn what_was_never_read_since_its_move_is_not_promoted_whatever_the_threshold() {
    let policy = TierPolicy { hot_accesses: 0, ..TierPolicy::default() };
    assert_eq!(moves(&policy, &[candidate(1, Tier::Warm, Duration::ZERO, 0)]), []);
    assert_eq!(moves(&policy, &[candidate(1, Tier::Warm, Duration::ZERO, 1)]).len(), 1);
}

#[test]
fn overrides_of_a_collection_come_before_the_policy() {
    let policy = TierPolicy::default();
    let with =
        |tier, idle, count, overrides| Candidate { overrides, ..candidate(1, tier, idle, count) };
    let none = TierOverrides::default;
    let cases = [
        (with(Tier::Hot, HOUR, 0, TierOverrides { hot_idle_ms: Some(1), ..none() }), 1),
        (with(Tier::Warm, HOUR, 0, TierOverrides { warm_idle_ms: Some(1), ..none() }), 1),
        (with(Tier::Warm, HOUR, 2, TierOverrides { hot_accesses: Some(2), ..none() }), 1),
        (with(Tier::Cold, HOUR, 5, TierOverrides { promote_on_access: Some(false), ..none() }), 0),
        (with(Tier::Hot, 9 * HOUR, 0, TierOverrides { automatic: Some(false), ..none() }), 0),
    ];
    for (candidate, due) in cases {
        assert_eq!(moves(&policy, std::slice::from_ref(&candidate)).len(), due, "{candidate:?}");
    }
}

#[test]
fn nothing_is_promoted_into_a_tier_in_which_it_would_be_idle() {
    let policy = TierPolicy { hot_idle_ms: 60_000, ..TierPolicy::default() };
    assert_eq!(moves(&policy, &[candidate(1, Tier::Warm, HOUR, 50)]), []);
}

#[test]
fn budgets_take_from_the_least_recently_used() {
    let policy = TierPolicy { memory_budget_bytes: Some(25), ..TierPolicy::default() };
    let hot = |id, idle| candidate(id, Tier::Hot, idle * HOUR, 5);
    let all = [hot(1, 2), hot(2, 4), hot(3, 1), candidate(4, Tier::Warm, 5 * HOUR, 0)];
    assert_eq!(moves(&policy, &all), [(2, Tier::Warm, MoveReason::MemoryBudget)]);
    let policy = TierPolicy { disk_budget_bytes: Some(25), ..TierPolicy::default() };
    let cold = |id| (id, Tier::Cold, MoveReason::DiskBudget);
    assert_eq!(moves(&policy, &all), [cold(4), cold(2)], "a hot one too, if it is its turn");
}

#[test]
fn a_promotion_displaces_what_was_used_before_it_and_nothing_else() {
    let policy = TierPolicy { memory_budget_bytes: Some(20), ..TierPolicy::default() };
    let (old, recent) = (candidate(1, Tier::Hot, 3 * HOUR, 9), candidate(2, Tier::Hot, HOUR, 0));
    let busy = |idle| candidate(3, Tier::Warm, idle, 10);
    let displaced = (1, Tier::Warm, MoveReason::MemoryBudget);
    let promoted = (3, Tier::Hot, MoveReason::Busy);
    let found = moves(&policy, &[busy(2 * HOUR), recent.clone(), old.clone()]);
    assert_eq!(found, [displaced, promoted], "room first");
    let equal = [busy(3 * HOUR), recent.clone(), old.clone()];
    assert_eq!(moves(&policy, &equal), [], "equals would displace each other in turns");
    assert_eq!(moves(&policy, &[busy(4 * HOUR), recent, old]), [], "all others are more recent");
}

#[test]
fn what_may_not_be_moved_still_takes_room() {
    let policy = TierPolicy { memory_budget_bytes: Some(10), ..TierPolicy::default() };
    let pinned = TierCell::new(Tier::Hot, true).state();
    let moving =
        TierState { moving_to: Some(Tier::Hot), ..candidate(0, Tier::Warm, HOUR, 0).state };
    for state in [pinned, moving] {
        let fixed = Candidate { state, ..candidate(1, Tier::Hot, 5 * HOUR, 0) };
        let other = candidate(2, Tier::Hot, HOUR, 0);
        let found = moves(&policy, &[fixed, other]);
        assert_eq!(found, [(2, Tier::Warm, MoveReason::MemoryBudget)], "{state:?}");
    }
}

#[test]
fn switched_off_the_policy_moves_nothing() {
    let policy =
        TierPolicy { enabled: false, memory_budget_bytes: Some(0), ..TierPolicy::default() };
    assert_eq!(moves(&policy, &[candidate(1, Tier::Hot, 900 * HOUR, 0)]), []);
}

#[test]
fn settings_are_plain_data_whose_fields_may_be_left_out() {
    let policy: TierPolicy = serde_json::from_str(r#"{"hot_accesses": 3}"#).unwrap();
    assert_eq!(policy, TierPolicy { hot_accesses: 3, ..TierPolicy::default() });
    assert!(serde_json::from_str::<TierPolicy>(r#"{"hot_acesses": 3}"#).is_err(), "a typing error");
    let overrides: TierOverrides = serde_json::from_str(r#"{"automatic": false}"#).unwrap();
    assert_eq!(overrides.automatic, Some(false));
}

fn policies() -> impl Strategy<Value = TierPolicy> {
    let limit = || prop::option::of(0_u64..120);
    (0_u64..20, 0_u64..40, 0_u64..5, any::<bool>(), limit(), limit()).prop_map(
        |(hot, warm, hot_accesses, promote_on_access, memory, disk)| TierPolicy {
            hot_idle_ms: hot * HOUR_MS,
            warm_idle_ms: warm * HOUR_MS,
            hot_accesses,
            promote_on_access,
            memory_budget_bytes: memory,
            disk_budget_bytes: disk,
            ..TierPolicy::default()
        },
    )
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let tier = || (0_usize..3).prop_map(|at| Tier::ALL[at]);
    let moving = prop_oneof![5 => Just(None), 1 => tier().prop_map(Some)];
    let one =
        (tier(), moving, prop::bool::weighted(0.2), 0_u32..45, 0_u64..8, 0_u64..40, 0_u64..40);
    prop::collection::vec((one, prop::bool::weighted(0.1)), 0..12).prop_map(|all| {
        let numbered = (1..).zip(all);
        numbered
            .map(|(id, ((tier, moving_to, pinned, idle, count, memory_bytes, disk_bytes), out))| {
                let state = TierState { tier, moving_to, pinned, generation: id.into() };
                let automatic = out.then_some(false);
                let overrides = TierOverrides { automatic, ..TierOverrides::default() };
                let plain = candidate(id, tier, idle * HOUR, count);
                Candidate { state, memory_bytes, disk_bytes, overrides, ..plain }
            })
            .collect()
    })
}

/// The candidates once a plan was carried out: moved ones begin to count anew.
fn carried_out(candidates: &[Candidate], moves: &[PlannedMove]) -> Vec<Candidate> {
    let mut after = candidates.to_vec();
    for candidate in &mut after {
        if let Some(planned) = moves.iter().find(|planned| planned.id == candidate.id) {
            candidate.state.tier = planned.to;
            candidate.state.generation += 1;
            candidate.access.count = 0;
        }
    }
    after
}

fn movable(candidate: &Candidate) -> bool {
    let TierState { moving_to, pinned, .. } = candidate.state;
    !pinned && moving_to.is_none() && candidate.overrides.automatic.is_none()
}

/// What a budget counts, and who could give some of it back.
fn held(candidates: &[Candidate], holds: impl Fn(&Candidate, Tier) -> u64) -> (u64, bool) {
    let holds = |candidate: &Candidate| {
        let there = candidate.state.moving_to.map_or(0, |to| holds(candidate, to));
        there.max(holds(candidate, candidate.state.tier))
    };
    let movable = candidates.iter().any(|c| movable(c) && holds(c) > 0);
    (candidates.iter().map(holds).sum(), movable)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_movable_collection_is_named_at_most_once_and_no_other_ever(
        policy in policies(),
        candidates in candidates(),
    ) {
        let moves = plan(&policy, &candidates, NOW);
        let mut ids: Vec<_> = moves.iter().map(|planned| planned.id).collect();
        for planned in &moves {
            let candidate = candidates.iter().find(|c| c.id == planned.id).unwrap();
            prop_assert!(movable(candidate), "{candidate:?}");
            prop_assert_eq!(planned.from, candidate.state.tier);
            prop_assert_ne!(planned.from, planned.to);
            prop_assert_eq!(planned.generation, candidate.state.generation);
        }
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), moves.len());
    }

    #[test]
    fn budgets_are_kept_wherever_something_movable_could_keep_them(
        policy in policies(),
        candidates in candidates(),
    ) {
        let after = carried_out(&candidates, &plan(&policy, &candidates, NOW));
        let memory = held(&after, |c, tier| if tier == Tier::Hot { c.memory_bytes } else { 0 });
        let disk = held(&after, |c, tier| if tier.is_local() { c.disk_bytes } else { 0 });
        let budgets = [policy.memory_budget_bytes, policy.disk_budget_bytes];
        for (budget, (held, movable)) in budgets.into_iter().zip([memory, disk]) {
            prop_assert!(budget.is_none_or(|budget| held <= budget || !movable));
        }
    }

    #[test]
    fn a_second_plan_reverses_nothing_of_the_first(
        policy in policies(),
        candidates in candidates(),
    ) {
        let first = plan(&policy, &candidates, NOW);
        let second = plan(&policy, &carried_out(&candidates, &first), NOW);
        for planned in &second {
            if let Some(before) = first.iter().find(|before| before.id == planned.id) {
                prop_assert_eq!(before.to > before.from, planned.to > planned.from);
            }
        }
    }

    #[test]
    fn a_plan_depends_on_what_is_known_and_not_on_its_order(
        policy in policies(),
        (candidates, shuffled) in candidates()
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        prop_assert_eq!(plan(&policy, &candidates, NOW), plan(&policy, &shuffled, NOW));
    }

    #[test]
    fn demotions_come_first(policy in policies(), candidates in candidates()) {
        let moves = plan(&policy, &candidates, NOW);
        prop_assert!(moves.is_sorted_by_key(|planned| planned.to < planned.from));
    }
}
