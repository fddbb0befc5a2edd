//! Owns: the epoll set for descriptors of others, and which watch is told what, when.
//!
//! Must never: contain a socket of the host (its poll's own descriptor is the one exception), change
//! or remove that one for a watch of the same number, run a callback, touch the kernel from within
//! [`WatchSet::watch`] or [`WatchSet::unwatch`].
//!
//! - Changes are gathered and applied once before waiting, one call a descriptor at most (D-9C).
//! - Several watches may share a descriptor; interests are merged, callbacks come in order of
//!   registration (D-96). Taking one back costs the same however many there are: it leaves a gap,
//!   and the gaps of a descriptor are closed once before waiting.
//! - A wait collects all that is ready. A watch that was collected and did not get its callback
//!   within the budget keeps its place, but is called only if the next wait finds it ready still:
//!   no callback is stale.
//! - A watch that is taken back after it was collected is not called (D-99).
//!
//! Diagnostics: [`WatchError`] at once, [`Ready::Dead`] later: also for a watch of a number that is
//! the host's poll or the set itself, and for all watches where the system has no set to give. An event that belongs to no watch
//! and cannot be removed, because its descriptor was closed while a duplicate lives on, has the set
//! made anew ([`WatchSet::rebuilds`]).

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use mio::Token;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::epoll::Epoll;
use super::interest::{Interest, Ready, WatchError};
use super::member::{Member, Newcomers, Registration, Settled};
use crate::number::NumberMap;
use crate::slab::{Key, Slab};

/// The data of the host's own descriptor in the set; no member's key.
const HOST: Token = Key::reserved(0);

/// Names one watch of one [`WatchSet`] until it is taken back or dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchKey(Key);

impl WatchKey {
    /// The key as a plain slab key, for callers that pack it into a token of their own.
    pub const fn key(self) -> Key {
        self.0
    }
}

/// Whether the host's own poll has something, as seen by [`WatchSet::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostReadiness {
    /// Its events can be collected without waiting.
    Ready,
    /// It has no events.
    Idle,
}

#[derive(Debug)]
struct Watch<P> {
    payload: P,
    interest: Interest,
    state: State,
    /// Whether it is on the queue of callbacks.
    queued: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The kernel was not told yet.
    New { member: Key },
    /// Found ready in the wait of that number, with these bits.
    Known { member: Key, round: u64, ready: Interest },
    /// No member's any more; its last callback is due.
    Dead { os_error: i32 },
}

/// A level-triggered set of descriptors, with a payload `P` a watch.
pub struct WatchSet<P> {
    watches: Slab<Watch<P>>,
    watches_max: usize,
    members: Slab<Member>,
    by_number: NumberMap<RawFd, Key>,
    /// Members whose watches changed since the kernel was told.
    changed: Vec<Key>,
    /// Members that are always ready.
    always: Vec<Key>,
    /// Whether some of those are members no more.
    always_gaps: bool,
    /// Watches to call, in order; stale ones are skipped.
    queue: VecDeque<Key>,
    set: Option<Epoll>,
    /// The number of the host's own descriptor, once it is in the set.
    host: Option<RawFd>,
    /// The number of the last wait.
    round: u64,
    rebuilds: u64,
}

impl<P> fmt::Debug for WatchSet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchSet")
            .field("watches", &self.watches.len())
            .field("members", &self.members.len())
            .field("queued", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl<P: Copy> WatchSet<P> {
    /// An empty set for at most `watches_max` watches. The epoll set is made after the first watch.
    pub fn new(watches_max: usize) -> Self {
        WatchSet {
            watches: Slab::new(),
            watches_max,
            members: Slab::new(),
            by_number: NumberMap::default(),
            changed: Vec::new(),
            always: Vec::new(),
            always_gaps: false,
            queue: VecDeque::new(),
            set: None,
            host: None,
            round: 0,
            rebuilds: 0,
        }
    }

    /// How many watches there are.
    pub const fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether there is no watch, and nothing to tell the kernel: then waiting here is pointless.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty() && self.changed.is_empty()
    }

    /// How often the set was made anew to get rid of events that belong to nobody.
    pub const fn rebuilds(&self) -> u64 {
        self.rebuilds
    }

    /// How many changes the epoll set was told, since it was last made anew. Those of one turn are
    /// gathered (D-9C).
    pub fn changes(&self) -> u64 {
        self.set.as_ref().map_or(0, Epoll::changes)
    }

    /// The set's own descriptor, readable while something is ready, for a loop that waits around
    /// this one; `None` before the first watch was applied. It is another one after the set was made anew.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.set.as_ref().map(AsFd::as_fd)
    }

    /// Watches a descriptor that stays its owner's, until [`WatchSet::unwatch`].
    ///
    /// The descriptor is a number that was valid when it was passed. It is borrowed for ever
    /// because nobody can say for how long: where its owner closes it without unwatching, the
    /// number goes stale, and that is noticed with the next change or removal, as [`Ready::Dead`]
    /// (D-97). The set never reads, writes or closes it. A number that was unwatched, closed and
    /// used again may be watched again at once.
    pub fn watch(
        &mut self,
        fd: BorrowedFd<'static>,
        interest: Interest,
        payload: P,
    ) -> Result<WatchKey, WatchError> {
        if self.watches.len() >= self.watches_max {
            return Err(WatchError::Full { watches_max: self.watches_max });
        }
        let member = self.member_of(fd);
        let state = State::New { member };
        let key = self.watches.insert(Watch { payload, interest, state, queued: false });
        self.mark_changed(member).watches.push(key);
        Ok(WatchKey(key))
    }

    /// Takes a watch back; `None` if the key is stale (D-9A). Its callback does not run any more,
    /// even if it was collected already (D-99).
    pub fn unwatch(&mut self, watch: WatchKey) -> Option<P> {
        let removed = self.watches.remove(watch.0)?;
        match removed.state {
            State::New { member } | State::Known { member, .. } => {
                self.mark_changed(member).gaps = true;
            }
            State::Dead { .. } => {}
        }
        Some(removed.payload)
    }

    /// Gives a watch another interest; `false` if the key is stale. It keeps its place among those of its
    /// descriptor, and what was collected for it counts as far as it is still asked for. The kernel is
    /// told once before the next wait, and not at all where the changes of a turn come to nothing (D-9C).
    pub fn set_interest(&mut self, watch: WatchKey, interest: Interest) -> bool {
        let Some(changed) = self.watches.get_mut(watch.0) else {
            return false;
        };
        changed.interest = interest;
        match &mut changed.state {
            State::New { .. } | State::Dead { .. } => {}
            State::Known { member, round, ready } => {
                match ready.intersection(interest) {
                    Some(left) => *ready = left,
                    // Round 0 is no wait's number, so this is ready in none.
                    None => *round = 0,
                }
                let member = *member;
                self.mark_changed(member);
            }
        }
        true
    }

    /// Tells the kernel what changed since the last time, and adds the host's own descriptor if it
    /// is not in the set. Watches that turn out to be dead are ready after this.
    pub fn apply(&mut self, host: Option<BorrowedFd<'_>>) {
        let is_open = self.set.is_some() && (host.is_none() || self.host.is_some());
        if self.changed.is_empty() && (is_open || self.set.is_none()) {
            return;
        }
        if let Err(errno) = self.open(host) {
            self.bury_all(errno);
            return;
        }
        // In order of registration; a member that is made anew by this goes to the end.
        let mut index = 0;
        while let Some(&member) = self.changed.get(index) {
            self.settle(member);
            index += 1;
        }
        self.changed.clear();
        self.close_always_gaps();
    }

    /// Whether callbacks are due without waiting. To be asked after [`WatchSet::apply`].
    pub fn has_ready(&self) -> bool {
        !self.queue.is_empty() || !self.always.is_empty()
    }

    /// Applies changes, waits until something is ready or `timeout` is over (for ever with `None`),
    /// and collects all that is. Does not wait while callbacks are due, and not at all before the
    /// first watch. `host` is the descriptor of the host's own poll, which is waited for as well;
    /// always pass the same.
    ///
    /// A signal ends the wait as a timeout does.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        host: Option<BorrowedFd<'_>>,
    ) -> io::Result<HostReadiness> {
        self.apply(host);
        self.round += 1;
        let timeout = if self.has_ready() { Some(Duration::ZERO) } else { timeout };
        let Some(set) = self.set.take() else {
            // Nobody has looked, so the host has to.
            return Ok(if host.is_some() { HostReadiness::Ready } else { HostReadiness::Idle });
        };
        let mut host_readiness = HostReadiness::Idle;
        let mut orphaned = false;
        // The host's own descriptor is a member as well.
        let waited = set.wait(self.members.len() + 1, timeout, |token, flags| match token {
            HOST => host_readiness = HostReadiness::Ready,
            token => orphaned |= self.collect(Key::from(token), flags).is_none(),
        });
        self.set = Some(set);
        waited?;
        for index in 0..self.always.len() {
            self.collect(self.always[index], EventFlags::IN | EventFlags::OUT);
        }
        if orphaned {
            self.rebuild(host);
        }
        Ok(host_readiness)
    }

    /// The next watch to call, with its payload. Dead ones are gone when this returns.
    pub fn take_ready(&mut self) -> Option<(WatchKey, P, Ready)> {
        while let Some(key) = self.queue.pop_front() {
            let Some(watch) = self.watches.get_mut(key) else {
                continue;
            };
            watch.queued = false;
            let (interest, payload) = (watch.interest, watch.payload);
            match watch.state {
                State::Known { round, ready, .. } if round == self.round => {
                    return Some((WatchKey(key), payload, Ready::Fired(ready)));
                }
                State::Dead { os_error } => {
                    self.watches.remove(key);
                    return Some((WatchKey(key), payload, Ready::Dead { interest, os_error }));
                }
                // Collected in an earlier wait and not in the last one: not ready any more.
                State::Known { .. } | State::New { .. } => {}
            }
        }
        None
    }

    /// The member for a number, made if there is none.
    fn member_of(&mut self, fd: BorrowedFd<'static>) -> Key {
        let members = &mut self.members;
        *self.by_number.entry(fd.as_raw_fd()).or_insert_with(|| {
            members.insert(Member {
                fd,
                watches: Vec::new(),
                registration: Registration::Absent,
                changed: false,
                gaps: false,
            })
        })
    }

    fn mark_changed(&mut self, key: Key) -> &mut Member {
        let member = self.members.get_mut(key).expect("invariant: a watch's member exists");
        if !std::mem::replace(&mut member.changed, true) {
            self.changed.push(key);
        }
        member
    }

    /// Makes the set if there is none, with the host's own descriptor in it. Without the host it
    /// would be of no use, so it goes again where that fails.
    fn open(&mut self, host: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let set = match &mut self.set {
            Some(set) => set,
            none => none.insert(Epoll::new()?),
        };
        if let Some(host) = host
            && self.host.is_none()
        {
            if let Err(errno) = set.add(host, HOST, EventFlags::IN) {
                self.set = None;
                return Err(errno);
            }
            self.host = Some(host.as_raw_fd());
        }
        Ok(())
    }

    /// Why a number cannot be watched although the kernel might not mind: a change or removal by
    /// this number would hit the host's own registration.
    fn conflict(&self, number: RawFd) -> Option<Errno> {
        if self.host == Some(number) {
            return Some(Errno::EXIST);
        }
        let own = self.set.as_ref().map(|set| set.as_fd().as_raw_fd());
        (own == Some(number)).then_some(Errno::INVAL)
    }

    /// Brings the kernel up to date on one member, and the member on what the kernel says.
    fn settle(&mut self, key: Key) {
        let number = self.members.get(key).map(|member| member.fd.as_raw_fd());
        if let Some(errno) = number.and_then(|number| self.conflict(number)) {
            return self.bury_member(key, errno);
        }
        let Some((member, set)) = self.members.get_mut(key).zip(self.set.as_mut()) else {
            return;
        };
        member.changed = false;
        if std::mem::take(&mut member.gaps) {
            member.watches.retain(|&watch| self.watches.get(watch).is_some());
            member.watches.shrink_to(2 * member.watches.len());
        }
        let Some((wanted, newcomers)) = demand(&self.watches, &member.watches) else {
            member.withdraw(set);
            self.remove_member(key);
            return;
        };
        match member.settle(set, key, wanted, newcomers) {
            Settled::Fine(registration) => self.on_registered(key, registration),
            Settled::Replaced(errno) => self.replace(key, errno),
            Settled::Dead(errno) => self.bury_member(key, errno),
        }
    }

    /// The kernel knows the member, and thereby all of its watches.
    fn on_registered(&mut self, key: Key, registration: Registration) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut member.registration, registration);
        if registration == Registration::Always && before != Registration::Always {
            self.always.push(key);
        }
        for &watch in &member.watches {
            if let Some(watch) = self.watches.get_mut(watch)
                && let State::New { member } = watch.state
            {
                // Round 0 is no wait's number, so this is ready in none.
                watch.state = State::Known { member, round: 0, ready: watch.interest };
            }
        }
    }

    /// Another file is behind the number: watches of the old one die, newcomers get a member of
    /// their own. Its key is another one, so that events of the old file, should it live on
    /// elsewhere, are not taken for the new one's.
    fn replace(&mut self, key: Key, errno: Errno) {
        let Some(member) = self.remove_member(key) else {
            return;
        };
        let (new, old): (Vec<Key>, Vec<Key>) = member.watches.into_iter().partition(|&watch| {
            self.watches.get(watch).is_some_and(|watch| matches!(watch.state, State::New { .. }))
        });
        self.bury(&old, errno);
        if new.is_empty() {
            return;
        }
        let renewed = self.member_of(member.fd);
        for &watch in &new {
            if let Some(watch) = self.watches.get_mut(watch) {
                watch.state = State::New { member: renewed };
            }
        }
        self.mark_changed(renewed).watches = new;
    }

    fn bury_member(&mut self, key: Key, errno: Errno) {
        if let Some(member) = self.remove_member(key) {
            self.bury(&member.watches, errno);
        }
    }

    /// There is no set to be had.
    fn bury_all(&mut self, errno: Errno) {
        let members: Vec<Key> = self.members.iter().map(|(key, _)| key).collect();
        members.into_iter().for_each(|member| self.bury_member(member, errno));
        self.changed.clear();
        self.close_always_gaps();
    }

    /// Queues the last callback of each.
    fn bury(&mut self, watches: &[Key], errno: Errno) {
        for &key in watches {
            if let Some(watch) = self.watches.get_mut(key) {
                watch.state = State::Dead { os_error: errno.raw_os_error() };
                if !std::mem::replace(&mut watch.queued, true) {
                    self.queue.push_back(key);
                }
            }
        }
    }

    fn remove_member(&mut self, key: Key) -> Option<Member> {
        let member = self.members.remove(key)?;
        self.by_number.remove(&member.fd.as_raw_fd());
        if member.registration == Registration::Always {
            self.always_gaps = true;
        }
        Some(member)
    }

    fn close_always_gaps(&mut self) {
        if std::mem::take(&mut self.always_gaps) {
            self.always.retain(|&member| self.members.get(member).is_some());
        }
    }

    /// Queues the watches of a ready member; `None` if there is no such member.
    fn collect(&mut self, member: Key, flags: EventFlags) -> Option<()> {
        for &key in &self.members.get(member)?.watches {
            let Some(watch) = self.watches.get_mut(key) else {
                continue;
            };
            let Some(ready) = watch.interest.answered_by(flags) else {
                continue;
            };
            watch.state = State::Known { member, round: self.round, ready };
            if !std::mem::replace(&mut watch.queued, true) {
                self.queue.push_back(key);
            }
        }
        Some(())
    }

    /// Makes the epoll set anew, without the registrations that belong to nobody. Each member is
    /// checked against the old set first, so that a number which has quietly passed to another file
    /// is not picked up.
    ///
    /// Where the system has no descriptor to give, or no memory, the old set stays, and the next
    /// wait tries again.
    fn rebuild(&mut self, host: Option<BorrowedFd<'_>>) {
        let (Some(old), Ok(mut new)) = (&mut self.set, Epoll::new()) else {
            return;
        };
        if host.is_some_and(|host| new.add(host, HOST, EventFlags::IN).is_err()) {
            return;
        }
        let mut lost = Vec::new();
        for (key, member) in self.members.iter() {
            let Registration::Kernel(flags) = member.registration else {
                continue;
            };
            let settled = match member.modify(old, key, flags) {
                Settled::Fine(_) => member.add(&mut new, key, flags),
                settled => settled,
            };
            match settled {
                Settled::Fine(_) => {}
                Settled::Replaced(errno) | Settled::Dead(errno) => lost.push((key, errno)),
            }
        }
        self.set = Some(new);
        self.rebuilds += 1;
        for (key, errno) in lost {
            self.bury_member(key, errno);
        }
    }
}

/// What the watches of a member want together, and whether some are new; `None` if there are none.
fn demand<P>(watches: &Slab<Watch<P>>, keys: &[Key]) -> Option<(EventFlags, Newcomers)> {
    let watches = || keys.iter().filter_map(|&key| watches.get(key));
    let interest = watches().map(|watch| watch.interest).reduce(|all, one| all | one)?;
    let new = watches().any(|watch| matches!(watch.state, State::New { .. }));
    Some((interest.flags(), if new { Newcomers::Some } else { Newcomers::None }))
}
