//! Which call fails how: rules that a test writes down, and random faults from a seed.

use akidb_vfs::{Random, SystemRandom};
use std::{fmt::Debug, time::Duration};

/// The calls of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Verb {
    Put,
    Get,
    GetRanges,
    Head,
    Delete,
    DeleteMany,
    List,
    CreateUpload,
    PutPart,
    Complete,
    Abort,
    ListParts,
    ListUploads,
}

impl Verb {
    /// True if the call changes the store, so that a lost answer leaves a doubt.
    pub const fn changes(self) -> bool {
        use Verb::{Abort, Complete, CreateUpload, Delete, DeleteMany, Put, PutPart};
        matches!(self, Put | Delete | DeleteMany | CreateUpload | PutPart | Complete | Abort)
    }
}

/// A way in which a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// 503, perhaps with the time to wait.
    Throttle {
        /// What the store asks for.
        retry_after: Option<Duration>,
    },
    /// 500, without an effect.
    ServerError,
    /// 403.
    Forbidden,
    /// 403, because the clocks of the two sides are too far apart.
    Skewed,
    /// 409: another call got in the way. No effect, and perhaps nobody has won.
    Conflict,
    /// 404, though it may be there.
    NotFound,
    /// No answer, and no effect.
    TimeoutBefore,
    /// No answer, after the effect.
    TimeoutAfter,
    /// The connection is gone; whether there was an effect follows from the seed.
    Reset,
    /// A read ends early without anybody noticing; a change arrives cut off, and has no effect.
    Truncated,
    /// 200, and in its body that it did not work.
    ErrorInside,
    /// It works, after a pause.
    Slow(Duration),
}

impl Fault {
    /// Each kind of fault once, throttling with and without a time to wait: for tests that go
    /// through all of them. What takes time takes three seconds.
    pub const ALL: [Self; 13] = [
        Self::Throttle { retry_after: None },
        Self::Throttle { retry_after: Some(Duration::from_secs(3)) },
        Self::ServerError,
        Self::Forbidden,
        Self::Skewed,
        Self::Conflict,
        Self::NotFound,
        Self::TimeoutBefore,
        Self::TimeoutAfter,
        Self::Reset,
        Self::Truncated,
        Self::ErrorInside,
        Self::Slow(Duration::from_secs(3)),
    ];
}

/// Faults that come by chance.
#[derive(Clone, Debug)]
struct Chance {
    per_mille: u64,
    faults: Vec<Fault>,
}

/// A fault of certain calls.
#[derive(Clone, Copy, Debug)]
struct Rule {
    verb: Option<Verb>,
    /// Calls that still go well.
    spared: u64,
    left: u64,
    fault: Fault,
}

/// What is going to fail.
#[derive(Debug)]
pub(super) struct Plan {
    random: SystemRandom,
    rules: Vec<Rule>,
    chance: Option<Chance>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: SystemRandom::from_seed(seed), rules: Vec::new(), chance: None }
    }

    pub(super) fn rule(&mut self, verb: Option<Verb>, spared: u64, times: u64, fault: Fault) {
        self.rules.push(Rule { verb, spared, left: times, fault });
    }

    pub(super) fn chance(&mut self, per_mille: u64, faults: &[Fault]) {
        self.chance = Some(Chance { per_mille, faults: faults.to_vec() });
    }

    pub(super) fn heal(&mut self) {
        self.rules.clear();
        self.chance = None;
    }

    /// The fault of the next call of this verb, if it has one. Every rule counts the call, and the
    /// first whose turn it is decides.
    pub(super) fn decide(&mut self, verb: Verb) -> Option<Fault> {
        let mut decided = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.verb.is_none_or(|of| of == verb)) {
            if rule.spared > 0 {
                rule.spared -= 1;
            } else if decided.is_none() && rule.left > 0 {
                rule.left -= 1;
                decided = Some(rule.fault);
            }
        }
        decided.or_else(|| self.by_chance())
    }

    fn by_chance(&mut self) -> Option<Fault> {
        let Chance { per_mille, faults } = self.chance.as_ref()?;
        // Both are drawn each time, so that the sequence does not depend on the odds.
        let (strikes, which) = (self.random.next_u64() % 1_000, self.random.next_u64());
        let which = which.checked_rem(faults.len() as u64)? as usize;
        faults.get(which).copied().filter(|_| strikes < *per_mille)
    }

    /// Whether a connection that is lost was lost after the effect.
    pub(super) fn coin(&mut self) -> bool {
        self.random.next_u64().is_multiple_of(2)
    }
}
