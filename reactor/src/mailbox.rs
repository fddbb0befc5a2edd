//! Owns: mail from other threads to a worker. A bounded channel, and one flag that says whether the
//! owner must be woken.
//!
//! Must never: block, on either side; wake an owner that is awake.
//!
//! Wake-ups. The owner lowers the flag right before it sleeps and looks into the channel after
//! that; a sender raises it after putting its mail in, and whoever raises it wakes the owner.
//! Either the owner finds the mail, or the sender finds the flag lowered: never neither. So there
//! is one write to the waker at most each time the owner lies down, and a worker that is busy is
//! not disturbed at all.
//!
//! Diagnostics: a full and a closed mailbox are the sender's to handle ([`SendError`]). A waker
//! that cannot wake means that the mailbox's poll is gone, and counts as closed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, TrySendError};
use mio::{Registry, Token, Waker};

/// Why mail was not taken; it comes back to the sender.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<M> {
    /// The owner is behind by as many messages as the mailbox holds. Environment: try again later,
    /// or shed load.
    #[error("the mailbox is full")]
    Full(M),
    /// The owner is gone. Nothing sent from now on is received.
    #[error("the owner of the mailbox is gone")]
    Closed(M),
}

impl<M> SendError<M> {
    /// The mail that was not taken.
    pub fn into_mail(self) -> M {
        match self {
            SendError::Full(mail) | SendError::Closed(mail) => mail,
        }
    }
}

/// Without the mail, which may hold what no log should.
impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::Closed(_) => "Closed(..)",
        })
    }
}

#[derive(Debug)]
struct Bell {
    /// Whether the owner is awake, or has been woken and will look into the channel.
    awake: AtomicBool,
    waker: Waker,
    rung: AtomicU64,
}

/// The end that any thread may send from.
pub struct Sender<M> {
    channel: crossbeam_channel::Sender<M>,
    bell: Arc<Bell>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender { channel: self.channel.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("waiting", &self.channel.len()).finish_non_exhaustive()
    }
}

impl<M> Sender<M> {
    /// Puts `mail` into the mailbox and wakes the owner if it sleeps. Never blocks. Mail of one
    /// sender arrives in order.
    pub fn send(&self, mail: M) -> Result<(), SendError<M>> {
        self.channel.try_send(mail).map_err(|error| match error {
            TrySendError::Full(mail) => SendError::Full(mail),
            TrySendError::Disconnected(mail) => SendError::Closed(mail),
        })?;
        if !self.bell.awake.swap(true, Ordering::AcqRel) {
            self.bell.rung.fetch_add(1, Ordering::Relaxed);
            // Writing to an eventfd fails only when there is none, and then nobody waits on it
            // either.
            let _ = self.bell.waker.wake();
        }
        Ok(())
    }
}

/// The owner's end. Starts awake.
pub struct Mailbox<M> {
    channel: Receiver<M>,
    bell: Arc<Bell>,
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("waiting", &self.channel.len()).finish_non_exhaustive()
    }
}

/// A mailbox for at most `mail_max` messages, whose memory is taken at once. Its wake-ups arrive in
/// `registry`'s poll as `token`; a poll can have one waker only.
pub fn mailbox<M>(
    registry: &Registry,
    token: Token,
    mail_max: usize,
) -> io::Result<(Sender<M>, Mailbox<M>)> {
    let waker = Waker::new(registry, token)?;
    let bell = Arc::new(Bell { awake: AtomicBool::new(true), waker, rung: AtomicU64::new(0) });
    // A capacity of zero would be a rendezvous, which blocks.
    let (sender, receiver) = crossbeam_channel::bounded(mail_max.max(1));
    Ok((Sender { channel: sender, bell: Arc::clone(&bell) }, Mailbox { channel: receiver, bell }))
}

impl<M> Mailbox<M> {
    /// The next message, without waiting.
    pub fn take(&mut self) -> Option<M> {
        self.channel.try_recv().ok()
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no message waits. Without [`Mailbox::lie_down`] before, one may arrive unnoticed
    /// right after.
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    /// Asks to be woken by what comes from now on. The owner may sleep if the answer is
    /// [`Rest::Sound`].
    pub fn lie_down(&mut self) -> Rest {
        // Spares the flag, which senders write to, where there is no question of sleep.
        if !self.channel.is_empty() {
            return Rest::Disturbed;
        }
        // A swap, not a store: it takes part in the order of the senders' swaps, so that a sender
        // who did not have to ring has its mail seen by the look below.
        self.bell.awake.swap(false, Ordering::AcqRel);
        if self.channel.is_empty() {
            return Rest::Sound;
        }
        self.get_up();
        Rest::Disturbed
    }

    /// Stops the waking, after a sleep. Not calling it costs wake-ups, nothing else.
    pub fn get_up(&mut self) {
        self.bell.awake.store(true, Ordering::Release);
    }

    /// How many wake-ups all senders have sent so far, each one write to the waker.
    pub fn wakeups(&self) -> u64 {
        self.bell.rung.load(Ordering::Relaxed)
    }
}

/// Whether the owner of a mailbox may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing waits, and what comes will wake.
    Sound,
    /// There is mail; the owner counts as awake again.
    Disturbed,
}
