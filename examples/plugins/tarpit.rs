//! tarpit.rs - lets clients that try many recipients wait, in safe Rust.
//!
//! A client that guesses addresses names many recipients in one connection, and lives from being fast. The
//! first plugin-tarpit-free recipients (5) of a connection are taken at once; each one after that waits
//! plugin-tarpit-seconds (1) longer than the one before, up to plugin-tarpit-seconds-max (30), without holding
//! up anything else. Who is logged in is left alone. A worker lets plugin-tarpit-waiting-max (1000) clients wait; others
//! are told to come back later, and the connection is closed.
//!
//! It shows the state of a worker and of a connection, holds, timers, what becomes of a client that leaves
//! while it waits, and how settings that make no sense keep the server from starting. A panic would cost one
//! step and nothing else. `rohrpost plugin new --rust` makes a project of its own; `make rust` builds this one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rohrpost_plugin::{
    Address, Context, Failure, Hold, Metric, Outcome, Plugin, Setup, Step, Timer, export, info,
};

/// One for all workers, which only read it.
struct Tarpit {
    free: u32,
    step: Duration,
    longest: Duration,
    waiting_max: u32,
    slowed: Metric,
}

/// One per worker: the clients that wait.
#[derive(Default)]
struct Worker {
    waiting: Rc<Cell<u32>>,
}

/// One per connection.
#[derive(Default)]
struct Client {
    recipients: Cell<u32>,
    waits: RefCell<Option<Wait>>,
}

/// A step that waits. Whatever becomes of it, it is counted off.
struct Wait {
    hold: Hold<Tarpit>,
    _timer: Timer,
    _count: Count,
}

struct Count(Rc<Cell<u32>>);

impl Count {
    fn new(of: &Rc<Cell<u32>>) -> Count {
        of.set(of.get() + 1);
        Count(Rc::clone(of))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Tarpit {
    /// How long the `number`-th recipient of a connection waits.
    fn wait(&self, number: u32) -> Option<Duration> {
        let beyond = number.checked_sub(self.free).filter(|beyond| *beyond > 0)?;
        Some(self.step.saturating_mul(beyond).min(self.longest))
    }
}

impl Plugin for Tarpit {
    type Worker = Worker;
    type Connection = Client;

    fn start(setup: Setup) -> Result<Tarpit, Failure> {
        Ok(Tarpit {
            free: setup.setting_or("free", 5)?,
            step: Duration::from_secs(setup.setting_or("seconds", 1)?),
            longest: Duration::from_secs(setup.setting_or("seconds-max", 30)?),
            waiting_max: setup.setting_or("waiting-max", 1000)?,
            slowed: setup.counter("slowed", "Recipients that had to wait")?,
        })
    }

    fn worker(&self, _: Context) -> Result<Worker, Failure> {
        Ok(Worker::default())
    }

    fn rcpt_to(&self, step: &mut Step<'_, Tarpit>, recipient: Address<'_>) -> Outcome {
        let client = step.state();
        let number = client.recipients.get().saturating_add(1);
        client.recipients.set(number);
        let Some(time) = self.wait(number).filter(|_| !step.is_authenticated()) else {
            return Ok(());
        };
        let waiting = Rc::clone(&step.worker().waiting);
        if waiting.get() >= self.waiting_max {
            step.defer(421, "4.7.0", "Too many clients wait here; come back later");
            return Ok(());
        }
        info(format_args!("tarpit: recipient {number}, {}, waits {time:?}", recipient.text()));
        self.slowed.add(1.0);
        let hold = step.hold()?;
        // The state has the hold and the timer; the timer finds them there. Not the state itself: it would
        // keep alive what it belongs to.
        let weak = Rc::downgrade(&client);
        let timer = step.context().timer(time, move || {
            if let Some(wait) = weak.upgrade().and_then(|client| client.waits.take()) {
                wait.hold.proceed();
            }
        })?;
        client.waits.replace(Some(Wait { hold, _timer: timer, _count: Count::new(&waiting) }));
        Ok(())
    }

    /// Nobody waits for the answer any more.
    fn lost(&self, step: &mut Step<'_, Tarpit>) -> Outcome {
        if let Some(wait) = step.state().waits.take() {
            wait.hold.proceed();
        }
        Ok(())
    }
}

export!(Tarpit: rcpt_to, lost);
