//! {name}: a plugin to begin with.
//!
//! It shows the three things that most plugins do: look at what a client says, let a step wait without
//! holding up anything else, and change a message before it is stored. Replace all of it.
//! `cargo doc --open` says what there is; tests/{name}.txt is the dialogue that `make test` plays.

use std::cell::RefCell;
use std::time::Duration;

use rohrpost_plugin::{
    Address, Context, Failure, Message, Outcome, Plugin, Step, Timer, export, info,
};

/// A recipient that begins so waits for this long, as it would for the answer of a service.
const PATIENT: &[u8] = b"patient-";
const WAIT: Duration = Duration::from_secs(2);

/// One for all workers.
struct Mine;

/// One per connection, made when a hook first asks for it; it goes when the connection does: and with it
/// the timer, which never fires then, and the step that waits for it.
#[derive(Default)]
struct State {
    timer: RefCell<Option<Timer>>,
}

impl Plugin for Mine {
    type Worker = ();
    type Connection = State;

    fn start() -> Result<Self, Failure> {
        Ok(Mine)
    }

    fn worker(&self, _: Context) -> Result<(), Failure> {
        Ok(())
    }

    /// RCPT TO. A hold lets the step wait, and the worker serves others meanwhile. One that is lost, as by a
    /// panic, fails its step and nothing else.
    fn rcpt_to(&self, step: &mut Step<'_, Self>, recipient: Address<'_>) -> Outcome {
        if !recipient.as_bytes().starts_with(PATIENT) {
            // Not interested: the next plugin is asked, then the server goes on.
            return Ok(());
        }
        let hold = step.hold()?;
        let timer = step.context().timer(WAIT, move || {
            info("{name}: the wait is over");
            hold.proceed();
        })?;
        *step.state().timer.borrow_mut() = Some(timer);
        Ok(())
    }

    /// Once for each recipient, before anything is stored: puts a field on top.
    fn message(&self, _: &mut Step<'_, Self>, message: Message) -> Outcome {
        if let Some(mime) = message.mime() {
            message.set_mime(&[b"X-{Name}: seen\r\n".as_slice(), &mime].concat());
        }
        Ok(())
    }
}

// The hooks that the server is to call, by the names of their methods.
export!(Mine: rcpt_to, message);
