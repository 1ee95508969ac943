//! The circuit breaker as a specification.

use super::*;
use akidb_vfs::sim::SimClock;
use proptest::prelude::*;

const OPEN: Duration = Duration::from_secs(5);

fn breaker() -> (CircuitBreaker, SimClock) {
    let clock = SimClock::new();
    let settings = BreakerSettings { window: 4, failures: 3, ..BreakerSettings::default() };
    (CircuitBreaker::new(settings, Arc::new(clock.clone())), clock)
}

fn fail(breaker: &CircuitBreaker, times: u32) {
    (0..times).for_each(|_| breaker.admit().unwrap().failed());
}

#[test]
fn it_opens_when_most_of_a_full_window_failed() {
    let (breaker, _) = breaker();
    fail(&breaker, 3);
    assert_eq!(breaker.stats().state, BreakerState::Closed, "three calls are no window");
    breaker.admit().unwrap().answered();
    assert_eq!(breaker.stats().state, BreakerState::Closed, "an answer does not open it");
    fail(&breaker, 1);
    assert_eq!(breaker.stats().state, BreakerState::Open { retry_in: OPEN });
    assert_eq!(breaker.admit().unwrap_err(), BreakerOpen { retry_in: OPEN });
    assert_eq!((breaker.stats().opened, breaker.stats().refused), (1, 1));
}

#[test]
fn old_failures_leave_the_window() {
    let (breaker, _) = breaker();
    for _ in 0..100 {
        fail(&breaker, 2);
        (0..2).for_each(|_| breaker.admit().unwrap().answered());
    }
    assert_eq!(breaker.stats().state, BreakerState::Closed);
}

#[test]
fn after_the_pause_one_call_at_a_time_tries_the_endpoint() {
    let (breaker, clock) = breaker();
    fail(&breaker, 4);
    clock.advance(OPEN);
    let probe = breaker.admit().unwrap();
    assert!(breaker.admit().is_err(), "one at a time");
    drop(probe);
    breaker.admit().expect("a cancelled probe makes room").answered();
    assert_eq!(breaker.stats().state, BreakerState::HalfOpen);
    breaker.admit().unwrap().answered();
    assert_eq!(breaker.stats().state, BreakerState::Closed);
    assert_eq!(breaker.stats().failures, 0, "it starts anew");
}

#[test]
fn an_endpoint_that_is_still_down_rests_twice_as_long_up_to_a_limit() {
    let (breaker, clock) = breaker();
    fail(&breaker, 4);
    for seconds in [5, 10, 20, 40, 60, 60] {
        let pause = Duration::from_secs(seconds);
        assert_eq!(breaker.stats().state, BreakerState::Open { retry_in: pause });
        clock.advance(pause - Duration::from_millis(1));
        assert!(breaker.admit().is_err());
        clock.advance(Duration::from_millis(1));
        breaker.admit().unwrap().failed();
    }
    clock.advance(Duration::from_secs(60));
    (0..2).for_each(|_| breaker.admit().unwrap().answered());
    fail(&breaker, 4);
    assert_eq!(breaker.stats().state, BreakerState::Open { retry_in: OPEN }, "short again");
}

#[test]
fn a_call_from_before_a_change_says_nothing_about_after() {
    let (breaker, clock) = breaker();
    let slow = breaker.admit().unwrap();
    fail(&breaker, 4);
    clock.advance(OPEN);
    let probe = breaker.admit().unwrap();
    slow.failed();
    assert_eq!(breaker.stats().state, BreakerState::HalfOpen, "the old call does not open it");
    probe.answered();
    breaker.admit().unwrap().answered();
    assert_eq!(breaker.stats().state, BreakerState::Closed);
}

#[test]
fn switched_off_it_refuses_nothing() {
    let settings = BreakerSettings { enabled: false, window: 1, failures: 1, ..Default::default() };
    let breaker = CircuitBreaker::new(settings, Arc::new(SimClock::new()));
    fail(&breaker, 100);
    assert_eq!(breaker.stats().state, BreakerState::Closed);
}

proptest! {
    /// Whatever the answers, the pauses and the calls that never end: an endpoint that works again
    /// gets its calls through again, after the longest pause at most.
    #[test]
    fn it_never_stays_open_for_ever(
        window in 0_u32..70,
        failures in 0_u32..70,
        steps in prop::collection::vec((0_u64..20, 0_u8..3), 0..80),
    ) {
        let clock = SimClock::new();
        let settings = BreakerSettings { window, failures, ..BreakerSettings::default() };
        let breaker = CircuitBreaker::new(settings, Arc::new(clock.clone()));
        for (seconds, end) in steps {
            clock.advance(Duration::from_secs(seconds));
            match (breaker.admit(), end) {
                (Ok(call), 0) => call.answered(),
                (Ok(call), 1) => call.failed(),
                (Ok(_), _) | (Err(_), _) => {}
            }
        }
        clock.advance(Duration::from_secs(60));
        for _ in 0..2 {
            let call = breaker.admit();
            prop_assert!(call.is_ok());
            call.unwrap().answered();
        }
        prop_assert_eq!(breaker.stats().state, BreakerState::Closed);
    }
}
