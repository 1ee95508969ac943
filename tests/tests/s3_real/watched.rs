//! Counts the calls of a store, and lets the real server die at one of them. No answer is changed: what a
//! call then gives is what a client of a dead server is given.

use akidb::tiering::{
    ObjectStore,
    faulty::{FaultyStore, Verb},
};
use akidb_tests::{ops::pause, real_server};
use akidb_vfs::thread::spawn;
use parking_lot::Mutex;
use std::{net::TcpStream, sync::Arc, thread::JoinHandle, time::Duration};

pub(crate) struct Watched {
    /// The store that is watched.
    pub(crate) store: Arc<FaultyStore>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Of all calls.
    seen: Vec<Verb>,
    /// At the how manieth from now, of these calls or of all.
    strike: Option<(Option<Verb>, u64)>,
    restart: Option<JoinHandle<()>>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let plan = Arc::<Mutex<Plan>>::default();
        let watching = plan.clone();
        let watch = move |verb| watching.lock().call(verb);
        Self { store: Arc::new(FaultyStore::new(inner, 0).with_before_each(watch)), plan }
    }

    /// The calls since this was asked last.
    pub(crate) fn seen(&self) -> Vec<Verb> {
        std::mem::take(&mut self.plan.lock().seen)
    }

    /// The server dies at the `nth` call from now on, of this kind if one is given: the call finds it dead.
    pub(crate) fn strike(&self, verb: Option<Verb>, nth: u64) {
        self.plan.lock().strike = Some((verb, nth));
    }

    /// Waits for a server that died. Did it?
    pub(crate) fn is_back(&self) -> bool {
        let (restart, left) = {
            let mut plan = self.plan.lock();
            (plan.restart.take(), plan.strike.take())
        };
        let Some(restart) = restart else { return false };
        assert_eq!(left, None, "it struck");
        restart.join().expect("the server comes back");
        true
    }
}

impl Plan {
    fn call(&mut self, verb: Verb) {
        self.seen.push(verb);
        let Some((wanted, nth)) = &mut self.strike else { return };
        if wanted.is_none_or(|wanted| wanted == verb) {
            *nth -= 1;
        }
        if *nth > 0 {
            return;
        }
        self.strike = None;
        let restart = || real_server::restart().expect("the server comes back");
        let restart = spawn("killer", restart).expect("a thread");
        wait_for_its_death(&restart);
        self.restart = Some(restart);
    }
}

/// Until nobody listens. The command that kills waits half a second before it starts the server again.
fn wait_for_its_death(restart: &JoinHandle<()>) {
    let endpoint = real_server::variable("AKIDB_S3_ENDPOINT").expect("the script sets it");
    let address = endpoint.strip_prefix("http://").expect("plain HTTP on loopback");
    while TcpStream::connect(address).is_ok() && !restart.is_finished() {
        // A server that is asked without a pause has no room left for those who come to talk.
        pause(Duration::from_millis(5));
    }
}
