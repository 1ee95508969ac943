//! T10: machines that want the same bucket, in every order of their calls.
//!
//! Owns the schedule: whose call goes on next, who crashes, who stalls while the store's clock runs
//! on for days, which put arrives late, who restores the database from the bucket, whose directory
//! is copied. The code under test is the one that ships; only the store is made. `witness` says what
//! must hold after every step, `machine` what a machine does. Everything follows from one seed.

mod dice;
mod machine;
mod store;
mod witness;

use dice::Dice;
use machine::{Disk, End, Process, settle};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use store::TurnStore;
use witness::Witness;

const STEPS: u64 = 900;
const HOUR: Duration = Duration::from_secs(3_600);

type Life = Pin<Box<dyn Future<Output = Result<End, String>> + Send>>;

/// A machine: its disk, and the process that runs on it, if one does.
struct Machine {
    disk: Arc<Mutex<Disk>>,
    life: Option<Life>,
    /// It lost the bucket, or never had it: only from the bucket can it begin.
    outside: bool,
    stalled: bool,
}

struct Schedule {
    dice: Dice,
    store: Arc<TurnStore>,
    witness: Arc<Witness>,
    machines: Vec<Machine>,
}

/// Plays one schedule, and counts what it came by.
///
/// # Errors
/// What went wrong, if something did: an acknowledgement that is lost, doubled or given by a writer
/// that was replaced; an object that is named and gone; garbage that stays.
pub fn schedule(seed: u64) -> Result<BTreeMap<&'static str, u64>, String> {
    let dice = Dice::new(seed);
    let machine = |outside| Machine { disk: Arc::default(), life: None, outside, stalled: false };
    let mut schedule = Schedule {
        store: Arc::new(TurnStore::new(dice.seed())),
        witness: Arc::new(Witness::default()),
        machines: (0..2 + dice.below(2)).map(|at| machine(at > 0)).collect(),
        dice,
    };
    for _ in 0..STEPS {
        schedule.step()?;
        schedule.witness.look(&schedule.store)?;
    }
    schedule.end()?;
    Ok(schedule.witness.tally())
}

impl Schedule {
    fn step(&mut self) -> Result<(), String> {
        let which = self.dice.below(self.machines.len() as u64) as usize;
        match self.dice.below(200) {
            0..=1 => self.crash(which),
            2..=3 => self.copy(which),
            4..=6 => {
                let machine = &mut self.machines[which];
                machine.stalled = !machine.stalled;
            }
            7..=10 => self.store.advance(HOUR * (1 + self.dice.below(240) as u32)),
            11..=16 => {
                let landed = self.store.land();
                self.witness.count("late puts", landed.into());
            }
            _ => return self.go_on(which),
        }
        Ok(())
    }

    fn crash(&mut self, which: usize) {
        let machine = &mut self.machines[which];
        let crashed = machine.life.take().is_some();
        machine.stalled = self.dice.one_in(2);
        self.witness.count("crashes", crashed.into());
    }

    /// A machine begins with a copy of another's directory, of which nothing runs.
    fn copy(&mut self, to: usize) {
        let from = self.dice.below(self.machines.len() as u64) as usize;
        if from == to || self.machines[from].life.is_some() || self.machines[from].outside {
            return;
        }
        let disk = self.machines[from].disk.lock().clone();
        let outside = false;
        let disk = Arc::new(Mutex::new(disk));
        self.machines[to] = Machine { disk, life: None, outside, stalled: false };
        self.witness.count("copies", 1);
    }

    fn go_on(&mut self, which: usize) -> Result<(), String> {
        if self.machines[which].stalled {
            return Ok(());
        }
        // Whoever is outside comes back seldom, else nobody gets anything done.
        let begins = !self.machines[which].outside || self.dice.one_in(80);
        if self.machines[which].life.is_none() && begins {
            let process = self.process(which);
            self.machines[which].life = Some(Box::pin(process.live()));
        }
        let machine = &mut self.machines[which];
        let Some(life) = machine.life.as_mut() else { return Ok(()) };
        let Poll::Ready(end) = life.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            return Ok(());
        };
        machine.life = None;
        if end? == End::Fenced {
            machine.outside = true;
        } else if machine.outside {
            // It restored; whether it has the bucket, its next opening will see.
            machine.outside = false;
        }
        Ok(())
    }

    fn process(&self, which: usize) -> Process {
        let machine = &self.machines[which];
        Process {
            name: format!("machine {which}"),
            disk: machine.disk.clone(),
            store: self.store.clone(),
            witness: self.witness.clone(),
            seed: self.dice.seed(),
            restore: machine.outside,
            steps: 1 + self.dice.below(20),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        for machine in &mut self.machines {
            machine.life = None;
        }
        self.store.heal();
        while self.store.land() {
            self.witness.look(&self.store)?;
        }
        let mut last: Life = {
            let process = self.process(0);
            let settled = settle(process, HOUR * 24 * 30);
            Box::pin(async move { settled.await.map(|()| End::Closed) })
        };
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let polled = last.as_mut().poll(&mut context);
            self.witness.look(&self.store)?;
            if let Poll::Ready(end) = polled {
                return end.map(drop);
            }
        }
    }
}
