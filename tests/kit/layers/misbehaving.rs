//! A plugin that does wrong what its recipients name, in safe Rust.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use rohrpost_plugin::{
    Address, Context, Failure, Interest, Metric, Outcome, Plugin, Setup, Step, Timer, Verdict, Watch, export, info,
};

struct Misbehaving {
    counter: Metric,
}

#[derive(Default)]
struct Seat {
    timer: RefCell<Option<Timer>>,
    watch: RefCell<Option<Watch<UnixStream>>>,
    trap: RefCell<Option<Watch<Trapped>>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        info("a seat is gone");
    }
}

/// Goes off when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{} goes off", self.0);
    }
}

/// A descriptor that does.
struct Trapped(UnixStream, #[allow(dead_code)] Bomb);

impl AsFd for Trapped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Plugin for Misbehaving {
    type Worker = String;
    type Connection = Seat;

    fn start(setup: Setup) -> Result<Self, Failure> {
        let counter = setup.counter("recipients", "Recipients that were named")?;
        setup.gauge("level", "How things are")?.set(0.5);
        setup.histogram("size", "How large they were", &[1.0, 2.0])?.observe(1.5);
        match setup.setting("start").as_deref() {
            Some("panic") => panic!("in start"),
            Some(_) => Err(Failure::new(setup.setting_or("start", 0_u8).unwrap_err())),
            None => Ok(Misbehaving { counter }),
        }
    }

    fn worker(&self, context: Context) -> Result<String, Failure> {
        context.timer(Duration::from_secs(3600), || info("an hour"))?.detach();
        Ok("the worker".to_owned())
    }

    fn rcpt_to(&self, step: &mut Step<'_, Self>, recipient: Address<'_>) -> Outcome {
        let context = step.context();
        let state = step.state();
        self.counter.add(1.0);
        match &*recipient.local_part() {
            "panic" => panic!("in the hook for {}", recipient.text()),
            "error" => return Err("x".parse::<u32>().unwrap_err().into()),
            "held-panic" => {
                let _hold = step.hold()?;
                panic!("while it is held");
            }
            "timer-panic" => {
                let hold = step.hold()?;
                let timer = context.timer(Duration::from_secs(1), move || {
                    let _hold = hold;
                    panic!("in the timer");
                })?;
                timer.detach();
            }
            "watch-panic" => {
                let hold = step.hold()?;
                let (ours, mut theirs) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                theirs.write_all(b"x")?;
                let watch = context.watch(ours, Interest::Read, move |_, readiness| {
                    let _both = (&hold, &theirs);
                    assert!(!readiness.readable, "in the watch");
                })?;
                *state.watch.borrow_mut() = Some(watch);
            }
            "dropped" => drop(step.hold()?),
            "forgotten" => std::mem::forget(step.hold()?),
            "thread" => {
                let remote = step.hold()?.remote();
                std::thread::spawn(move || remote.release(Verdict::Continue));
            }
            "thread-answer" => {
                let remote = step.hold()?.remote();
                std::thread::spawn(move || {
                    remote.finish(|hold| {
                        assert!(hold.reject(550, "5.7.1", &format!("{} says no", hold.worker())));
                        hold.proceed();
                    });
                });
            }
            "thread-panic" => {
                let remote = step.hold()?.remote();
                std::thread::spawn(move || {
                    let _remote = remote;
                    panic!("in the thread");
                });
            }
            "bomb-in-timer" => {
                let bomb = Bomb("timer");
                let (second, hold) = (Duration::from_secs(1), step.hold()?);
                let timer = context.repeat(second, second, move || {
                    let _both = (&bomb, &hold);
                    panic!("in the repeating timer");
                })?;
                timer.detach();
            }
            // Its own, while it runs: what it captured goes when it has returned.
            "bomb-in-own-timer" => {
                let (bomb, hold) = (Bomb("own timer"), RefCell::new(Some(step.hold()?)));
                let (second, again) = (Duration::from_secs(1), Rc::clone(&state));
                let timer = context.repeat(second, second, move || {
                    let _bomb = &bomb;
                    hold.borrow_mut().take().map(|hold| hold.proceed());
                    again.timer.borrow_mut().take();
                })?;
                *state.timer.borrow_mut() = Some(timer);
            }
            "bomb-in-watch" | "bomb-in-own-watch" => {
                let own = recipient.as_bytes().starts_with(b"bomb-in-own");
                let (bomb, hold) = (Bomb("watch"), RefCell::new(Some(step.hold()?)));
                let (ours, mut theirs) = UnixStream::pair()?;
                theirs.write_all(b"x")?;
                let (trapped, again) = (Trapped(ours, Bomb("descriptor")), Rc::clone(&state));
                let watch = context.watch(trapped, Interest::Read, move |_, _| {
                    let _both = (&bomb, &theirs);
                    hold.borrow_mut().take().map(|hold| hold.proceed());
                    again.trap.borrow_mut().take();
                    assert!(own, "in the watch");
                })?;
                *state.trap.borrow_mut() = Some(watch);
            }
            "late" => {
                let hold = step.hold_for(Duration::from_secs(2))?;
                let late = context.timer(Duration::from_secs(4), move || {
                    assert!(!hold.reject(550, "5.7.1", "far too late") && !hold.discard());
                    assert!(hold.message().is_none() && !hold.set_authenticated(true));
                    info("nobody hears it");
                    hold.fail_with(&Failure::new("gave up"));
                })?;
                late.detach();
            }
            "after-late" => {
                let hold = step.hold()?;
                step.complete(); // it is the hold's now
                assert!(step.hold().is_err());
                let timer = context.timer(Duration::from_secs(3), move || {
                    hold.proceed();
                })?;
                timer.detach();
            }
            "answered-after-late" => {
                let hold = step.hold()?;
                let timer = context.timer(Duration::from_secs(1), move || {
                    assert!(hold.reject(551, "5.1.6", "in time"));
                    hold.proceed();
                })?;
                timer.detach();
            }
            "flood" => {
                // On this thread, so that none of them runs before the last.
                let remote = step.hold()?.remote();
                while context.remote().post(|_| {}) {}
                remote.release(Verdict::Continue);
            }
            "wait" => {
                let hold = step.hold()?;
                let again = Rc::clone(&state);
                let timer = context.timer(Duration::from_secs(5), move || {
                    again.timer.borrow_mut().take();
                    hold.proceed();
                })?;
                timer.reset(Duration::from_secs(1));
                *state.timer.borrow_mut() = Some(timer);
            }
            "echo" => {
                let hold = RefCell::new(Some(step.hold()?));
                let (ours, mut theirs) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                theirs.write_all(b"y")?;
                let again = Rc::clone(&state);
                let watch = context.watch(ours, Interest::Read, move |mut stream, _| {
                    let mut answer = [0; 1];
                    if stream.read(&mut answer).is_ok_and(|size| size == 1) {
                        hold.borrow_mut().take().map(|hold| hold.proceed());
                        // Its own, while it runs.
                        again.watch.borrow_mut().take();
                    }
                })?;
                *state.watch.borrow_mut() = Some(watch);
            }
            "repeat" => {
                let mut left = 3;
                let hold = RefCell::new(Some(step.hold()?));
                let second = Duration::from_secs(1);
                let again = Rc::clone(&state);
                let timer = context.repeat(second, second, move || {
                    left -= 1;
                    info(format_args!("{left} left"));
                    if left == 0 {
                        hold.borrow_mut().take().map(|hold| hold.proceed());
                        again.timer.borrow_mut().take();
                    }
                })?;
                *state.timer.borrow_mut() = Some(timer);
            }
            "reject" => {
                step.reject(551, "5.1.6", "Not\nhere");
            }
            "complete" => step.complete(),
            _ => {}
        }
        Ok(())
    }

    fn message(
        &self,
        step: &mut Step<'_, Self>,
        message: rohrpost_plugin::Message,
    ) -> Outcome {
        let mut text = format!("X-Client: {}\r\n", step.helo().unwrap_or_default()).into_bytes();
        text.extend(message.mime().ok_or_else(|| Failure::new("there is no text"))?);
        message.set_mime(&text);
        message.set_note("seen", Some(b"yes"));
        assert_eq!(message.note("seen").as_deref(), Some(&b"yes"[..]));
        if message.recipient().as_deref() == Some("message-panic@example.net") {
            panic!("in the message hook");
        }
        Ok(())
    }

    fn out_message(&self, _: &mut Step<'_, Self>, message: rohrpost_plugin::Message) -> Outcome {
        match message.recipient().as_deref() {
            Some("bounce@example.net") => assert!(message.bounce(551, "5.1.6", "Not from here")),
            Some("retry@example.net") => assert!(message.retry_at(std::time::SystemTime::UNIX_EPOCH)),
            Some("route@example.net") => assert!(message.route("no host", 0), "no such host"),
            _ => {}
        }
        Ok(())
    }

    fn out_result(
        &self,
        step: &mut Step<'_, Self>,
        message: rohrpost_plugin::Message,
        code: u16,
        _: &[u8],
    ) -> Outcome {
        let (host, state) = (step.host().unwrap_or_default(), message.state().unwrap_or_default());
        // SAFETY: it takes any pointer for a message.
        let local = unsafe { MQ_local(message.as_raw()) };
        assert_eq!(local != 0, message.is_local());
        info(format_args!("{code} of {host} at {state}"));
        Ok(())
    }
}

// Declared here, as for what the layer does not have.
unsafe extern "C" {
    fn MQ_local(address_or_message: *const std::ffi::c_void) -> u8;
}

export!(Misbehaving: rcpt_to, message, out_message, out_result);
