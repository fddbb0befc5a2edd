//! Access: from the pointer that a plugin passed to the cell that it may touch.
//!
//! Owns the order of the checks: kind, plugin, thread, and last the slot. Must never call `f` unless all
//! hold. Diagnostics: every refusal is reported once, and laid to the token's plugin, else to the one
//! whose code runs (D-05).

use std::cell::RefCell;
use std::ffi::c_void;

use crate::address::Owner;
use crate::call;
use crate::command::TimerCallback;
use crate::host::{self, Host};
use crate::inbox::Post;
use crate::misuse::{self, Misuse, Refusal};
use crate::plugin::Life;
use crate::post;
use crate::state::State;
use crate::step::Verdict;
use crate::token::{Kind, Opaque, Token};

/// What the header asks for in an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// With or without a connection.
    Context,
    Connection,
    Message,
    Watch,
    Timer,
    Query,
    Plugin,
    Metric,
    Hold,
    /// Either.
    ConnectionOrMessage,
}

impl Wanted {
    const fn type_name(self) -> &'static str {
        match self {
            Wanted::Context => Kind::Context.type_name(),
            Wanted::Connection => Kind::Connection.type_name(),
            Wanted::Message => Kind::Message.type_name(),
            Wanted::Watch => Kind::Watch.type_name(),
            Wanted::Timer => Kind::Timer.type_name(),
            Wanted::Query => Kind::Query.type_name(),
            Wanted::Plugin => Kind::Plugin.type_name(),
            Wanted::Metric => Kind::Metric.type_name(),
            Wanted::Hold => Kind::Hold.type_name(),
            Wanted::ConnectionOrMessage => "MQ_Connection or MQ_Message",
        }
    }

    fn accepts(self, kind: Kind) -> bool {
        match kind {
            Kind::Context | Kind::StepContext => self == Wanted::Context,
            Kind::Connection => {
                matches!(self, Wanted::Connection | Wanted::ConnectionOrMessage)
            }
            Kind::Message => matches!(self, Wanted::Message | Wanted::ConnectionOrMessage),
            Kind::Hold => self == Wanted::Hold,
            Kind::Watch => self == Wanted::Watch,
            Kind::Timer => self == Wanted::Timer,
            Kind::Query => self == Wanted::Query,
            Kind::Plugin => self == Wanted::Plugin,
            Kind::Metric => self == Wanted::Metric,
        }
    }
}

/// Serves `function`: gives `f` the cell and the token that `pointer` is, or reports why not and returns
/// `otherwise`.
pub(crate) fn serve<T>(
    function: &'static str,
    wanted: Wanted,
    pointer: *mut Opaque,
    otherwise: T,
    f: impl FnOnce(&mut State, Token) -> Result<T, Misuse>,
) -> T {
    call::host_code(function, || {
        let served = admit(wanted, pointer).and_then(|token| {
            on_owner(token, f).map_err(|misuse| Refusal { plugin: Some(token.plugin()), misuse })
        });
        served.unwrap_or_else(|refusal| {
            misuse::report(function, refusal);
            otherwise
        })
    })
}

/// Serves a function on an address: gives `f` the cell and whose address `pointer` is, or reports why not
/// and returns `otherwise`.
pub(crate) fn serve_address<T>(
    function: &'static str,
    pointer: *mut Opaque,
    otherwise: T,
    f: impl FnOnce(&mut State, Owner) -> T,
) -> T {
    const EXPECTED: &str = "MQ_Address";
    call::host_code(function, || {
        let plugin = call::current().map(|current| current.plugin);
        let misuse = if pointer.is_null() {
            Misuse::Null { expected: EXPECTED }
        } else {
            let served = call::with_state(|state| {
                state.addresses.owner(pointer).ok_or(()).map(|owner| f(state, owner))
            });
            match served {
                Some(Ok(served)) => return served,
                Some(Err(())) => Misuse::AddressGone,
                None => Misuse::WrongThread { kind: EXPECTED },
            }
        };
        misuse::report(function, Refusal { plugin, misuse });
        otherwise
    })
}

/// Whether this can be a message and cannot be an address.
pub(crate) fn is_message(pointer: *mut Opaque) -> bool {
    Token::from_pointer(pointer, "").is_ok()
}

/// The same for what belongs to no worker, so that any thread may call.
pub(crate) fn serve_anywhere<T>(
    function: &'static str,
    wanted: Wanted,
    pointer: *mut Opaque,
    otherwise: T,
    f: impl FnOnce(&'static Host, Token) -> Result<T, Misuse>,
) -> T {
    call::host_code(function, || {
        let served = admit(wanted, pointer).and_then(|token| {
            let host = host::installed().expect("a token is admitted only with a host");
            f(host, token).map_err(|misuse| Refusal { plugin: Some(token.plugin()), misuse })
        });
        served.unwrap_or_else(|refusal| {
            misuse::report(function, refusal);
            otherwise
        })
    })
}

/// Records a hand-back here, or puts it into the inbox of the worker that it names (D-26). `pointer` is what
/// the function's generation hands back with: a context, or a connection.
pub(crate) fn hand_back(
    function: &'static str,
    wanted: Wanted,
    verdict: Verdict,
    pointer: *mut Opaque,
) {
    call::host_code(function, || {
        let done = admit(wanted, pointer).and_then(|token| {
            let plugin = Some(token.plugin());
            try_hand_back(token, verdict).map_err(|misuse| Refusal { plugin, misuse })
        });
        if let Err(refusal) = done {
            misuse::report(function, refusal);
        }
    });
}

/// Has the worker that `context` names run `callback`. Whether it will: not if it has ended, or if too
/// many wait.
pub(crate) fn post(
    function: &'static str,
    context: *mut Opaque,
    callback: Option<TimerCallback>,
    data: *mut c_void,
) -> bool {
    call::host_code(function, || {
        let done = admit(Wanted::Context, context).and_then(|token| {
            let plugin = token.plugin();
            let callback = callback.ok_or(Misuse::Argument("callback is NULL"));
            let posted = callback.and_then(|callback| {
                let post = post::Post { plugin, callback, data };
                host::installed().map_or(Ok(false), |host| host.run_later(token.worker(), post))
            });
            posted.map_err(|misuse| Refusal { plugin: Some(plugin), misuse })
        });
        done.unwrap_or_else(|refusal| {
            misuse::report(function, refusal);
            false
        })
    })
}

/// As [`hand_back`], for a hold with a name; whether it counts, or is on its way to where it will be seen. `None`
/// for a verdict that there is not.
pub(crate) fn release(hold: *mut Opaque, verdict: Option<Verdict>) -> u8 {
    let function = "MQX_release";
    call::host_code(function, || {
        let done = admit(Wanted::Hold, hold).and_then(|token| {
            let refuse = |misuse| Refusal { plugin: Some(token.plugin()), misuse };
            let unknown = Misuse::Argument("verdict is no MQX_CONTINUE, MQX_COMPLETE or MQX_RETRY");
            let verdict = verdict.ok_or(refuse(unknown))?;
            try_release(token, verdict).map_err(refuse)
        });
        done.map(u8::from).unwrap_or_else(|refusal| {
            misuse::report(function, refusal);
            0
        })
    })
}

fn try_release(token: Token, verdict: Verdict) -> Result<bool, Misuse> {
    let here = call::with_state(|state| {
        (state.worker == token.worker()).then(|| state.release(token, verdict))
    });
    let posted = match (here.flatten(), host::installed()) {
        (Some(done), _) => return done,
        (None, Some(host)) if host.knows(token.worker()) => host.post(token, verdict),
        (None, _) => return Ok(false),
    };
    match posted {
        Ok(()) => Ok(true),
        // Another release waits for this hold, or for a later one in its place: this one is over.
        Err(Misuse::Doubled | Misuse::Stale { .. }) => Ok(false),
        Err(misuse) => Err(misuse),
    }
}

/// Applies what [`hand_back`] put into the inbox of this worker.
pub(crate) fn apply_post(state: &RefCell<State>, post: Post) {
    let Post { context, first, second } = post;
    for verdict in std::iter::once(first).chain(second) {
        let applied = state.borrow_mut().hand_back(context, verdict);
        if let Err(misuse) = applied {
            let refusal = Refusal { plugin: Some(context.plugin()), misuse };
            misuse::report(function(verdict, context.kind()), refusal);
        }
    }
}

/// A later hand-back came before the worker had looked at this one, whose step is over.
#[cold]
pub(crate) fn report_displaced(post: Post) {
    let Post { context, first, second } = post;
    // D-28: a late release of a hold with a name is no misuse.
    if context.kind() == Kind::Hold {
        return;
    }
    let misuse = Misuse::Stale { kind: context.kind().type_name() };
    for verdict in std::iter::once(first).chain(second) {
        let refusal = Refusal { plugin: Some(context.plugin()), misuse };
        misuse::report(function(verdict, context.kind()), refusal);
    }
}

/// The name of a hand-back, by what it was given.
const fn function(verdict: Verdict, kind: Kind) -> &'static str {
    match (verdict, kind) {
        (Verdict::Continue, Kind::Connection) => "MQ_continue",
        (Verdict::Complete, Kind::Connection) => "MQ_complete",
        (Verdict::Retry, Kind::Connection) => "MQ_retry",
        (Verdict::Continue, _) => "MQ_Continue",
        (Verdict::Complete, _) => "MQ_Complete",
        (Verdict::Retry, _) => "MQ_Retry",
    }
}

fn try_hand_back(token: Token, verdict: Verdict) -> Result<(), Misuse> {
    let here = call::with_state(|state| {
        (state.worker == token.worker()).then(|| state.hand_back(token, verdict))
    });
    match (here.flatten(), host::installed()) {
        (Some(done), _) => done,
        (None, Some(host)) if host.knows(token.worker()) => host.post(token, verdict),
        (None, _) => Err(Misuse::Stale { kind: token.kind().type_name() }),
    }
}

/// Everything about a pointer that needs no cell.
fn admit(wanted: Wanted, pointer: *mut Opaque) -> Result<Token, Refusal> {
    let expected = wanted.type_name();
    let running = call::running();
    let refuse = |misuse| Refusal { plugin: running, misuse };
    let token = Token::from_pointer(pointer, expected).map_err(refuse)?;
    let plugin = host::installed().and_then(|host| host.plugins().find(token.plugin()));
    let Some(plugin) = plugin else {
        return Err(refuse(Misuse::NotOurs { expected }));
    };
    // What the caller is told is its own doing, hence not laid to the owner of the token.
    if running.is_some_and(|running| running != token.plugin()) {
        return Err(refuse(Misuse::Foreign { kind: token.kind().type_name() }));
    }
    // Its contexts are gone; a thread of it may not know yet.
    if plugin.life() == Life::Over {
        let misuse = Misuse::Stale { kind: token.kind().type_name() };
        return Err(Refusal { plugin: Some(token.plugin()), misuse });
    }
    if !wanted.accepts(token.kind()) {
        let misuse = Misuse::WrongKind { expected, found: token.kind().type_name() };
        return Err(Refusal { plugin: Some(token.plugin()), misuse });
    }
    Ok(token)
}

fn on_owner<T>(
    token: Token,
    f: impl FnOnce(&mut State, Token) -> Result<T, Misuse>,
) -> Result<T, Misuse> {
    let foreign = Err(Misuse::WrongThread { kind: token.kind().type_name() });
    let served =
        call::with_state(|state| (state.worker == token.worker()).then(|| f(state, token)));
    served.flatten().unwrap_or(foreign)
}
