//! Limits that the whole program shares: memory for messages, and connections.
//!
//! Owns the counting of both over all workers. Never decides what a refusal means to a peer.
//!
//! Diagnostics: a refusal is a value, [`ConnectionLimit`] or `false`; giving back more than was
//! taken is a bug and panics.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The largest step in which a worker takes memory from the budget, in bytes.
const SHARE_BYTES_STEP_MAX: u64 = 1 << 20;
/// The smallest step, in bytes: below a page nothing is saved.
const SHARE_BYTES_STEP_MIN: u64 = 4096;
/// Parts of the table of addresses, each with a lock of its own.
const ADDRESS_SHARDS: usize = 64;

/// The memory that messages may take in this process (`memory-limit`).
///
/// Workers take and give back in steps through a [`Share`], so that the shared counter is not
/// written for every message. What all shares hold unused is at most a quarter of the limit.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes_max: u64,
    step: u64,
    taken: AtomicU64,
}

impl MemoryBudget {
    /// A budget for so many workers.
    pub fn new(bytes_max: u64, workers: u32) -> Arc<Self> {
        // A share keeps up to two steps unused: 2 x workers x limit / (8 x workers) = limit / 4.
        let step = bytes_max / (8 * u64::from(workers.max(1)));
        let step = step.clamp(SHARE_BYTES_STEP_MIN, SHARE_BYTES_STEP_MAX);
        Arc::new(Self { bytes_max, step, taken: AtomicU64::new(0) })
    }

    /// A share for one worker, empty at first.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), held: 0, used: 0 }
    }

    /// The limit in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes that shares hold, what they hold unused included; never above the limit.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let sum = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        let before = self.taken.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "shares give back only what they took");
    }
}

/// One worker's part of a [`MemoryBudget`]. Dropping it gives everything back.
#[derive(Debug)]
pub struct Share {
    budget: Arc<MemoryBudget>,
    held: u64,
    used: u64,
}

impl Share {
    /// Reserves bytes; `false` if the budget is used up, and then nothing has changed.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let Some(used) = self.used.checked_add(bytes) else {
            return false;
        };
        if used > self.held && !self.grow(used - self.held) {
            return false;
        }
        self.used = used;
        true
    }

    /// Gives back bytes that were reserved through this share.
    ///
    /// # Panics
    /// If more is given back than was reserved: a bug that would let the limit be passed.
    pub fn release(&mut self, bytes: u64) {
        assert!(bytes <= self.used, "released more memory than was reserved");
        self.used -= bytes;
        // One step stays at hand, so that a share that swings about a step's edge takes nothing.
        let step = self.budget.step;
        if self.held - self.used > 2 * step {
            let surplus = self.held - self.used - step;
            self.held -= surplus;
            self.budget.give_back(surplus);
        }
    }

    /// Whether more than half of the whole budget is taken: time to keep no text in memory that is on
    /// disk already.
    pub fn is_tight(&self) -> bool {
        self.budget.taken() > self.budget.bytes_max() / 2
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes at least so many bytes, rounded up to a step where that much is left.
    fn grow(&mut self, missing: u64) -> bool {
        let rounded = missing.checked_next_multiple_of(self.budget.step).unwrap_or(missing);
        let grown = [rounded, missing].into_iter().find(|bytes| self.budget.take(*bytes));
        self.held += grown.unwrap_or(0);
        grown.is_some()
    }
}

impl crate::smtp::Memory for Share {
    fn reserve(&mut self, bytes: usize) -> bool {
        Share::reserve(self, bytes as u64)
    }

    fn release(&mut self, bytes: usize) {
        Share::release(self, bytes as u64);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.held);
    }
}

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionBounds {
    /// In both directions together.
    pub total: u32,
    /// Incoming.
    pub incoming: u32,
    /// Outgoing.
    pub outgoing: u32,
    /// Incoming from one address, or from one /64 of IPv6.
    pub per_address: Option<NonZeroU32>,
}

/// Which limit refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionLimit {
    /// All connections together.
    #[error("there are too many connections")]
    Total,
    /// All connections of this direction.
    #[error("there are too many connections in this direction")]
    Direction,
    /// Connections from this address.
    #[error("there are too many connections from this address")]
    Address,
}

/// The limits in force, which a reload changes.
#[derive(Debug)]
struct Bounds {
    total: AtomicU32,
    incoming: AtomicU32,
    outgoing: AtomicU32,
    /// 0 for no limit.
    per_address: AtomicU32,
}

impl Bounds {
    fn new(bounds: ConnectionBounds) -> Bounds {
        let zero = || AtomicU32::new(0);
        let new = Bounds { total: zero(), incoming: zero(), outgoing: zero(), per_address: zero() };
        new.set(bounds);
        new
    }

    fn set(&self, bounds: ConnectionBounds) {
        self.total.store(bounds.total, Ordering::Relaxed);
        self.incoming.store(bounds.incoming, Ordering::Relaxed);
        self.outgoing.store(bounds.outgoing, Ordering::Relaxed);
        let per_address = bounds.per_address.map_or(0, NonZeroU32::get);
        self.per_address.store(per_address, Ordering::Relaxed);
    }
}

/// Open connections of all workers. Counted once a connection, not once a message.
///
/// The table of addresses holds only addresses with an open connection, so the limit of incoming
/// connections bounds it. Its locks are held for one look-up, and strangers cannot choose
/// addresses that share one because the hash is seeded.
#[derive(Debug)]
pub struct Connections {
    bounds: Bounds,
    incoming: AtomicU32,
    outgoing: AtomicU32,
    total: AtomicU32,
    addresses: Box<[Mutex<HashMap<IpAddr, u32>>]>,
    hasher: RandomState,
}

impl Connections {
    /// No connections yet.
    pub fn new(bounds: ConnectionBounds) -> Arc<Self> {
        Arc::new(Self {
            bounds: Bounds::new(bounds),
            incoming: AtomicU32::new(0),
            outgoing: AtomicU32::new(0),
            total: AtomicU32::new(0),
            addresses: (0..ADDRESS_SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Changes the limits. Connections that are open beyond a new one stay.
    pub fn limit(&self, bounds: ConnectionBounds) {
        self.bounds.set(bounds);
    }

    /// Counts an incoming connection until the permit is dropped.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub fn accept(self: &Arc<Self>, peer: IpAddr) -> Result<IncomingPermit, ConnectionLimit> {
        let mut permit = self.accept_unnamed()?;
        permit.name(peer)?;
        Ok(permit)
    }

    /// The same for a proxy whose client is not known yet: it counts for no address until it is
    /// [named](IncomingPermit::name).
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub fn accept_unnamed(self: &Arc<Self>) -> Result<IncomingPermit, ConnectionLimit> {
        step_up(&self.total, &self.bounds.total).or(Err(ConnectionLimit::Total))?;
        if step_up(&self.incoming, &self.bounds.incoming).is_err() {
            step_down(&self.total);
            return Err(ConnectionLimit::Direction);
        }
        Ok(IncomingPermit { connections: Arc::clone(self), network: None })
    }

    /// Counts an outgoing connection until the permit is dropped.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub fn connect(self: &Arc<Self>) -> Result<OutgoingPermit, ConnectionLimit> {
        step_up(&self.total, &self.bounds.total).or(Err(ConnectionLimit::Total))?;
        if step_up(&self.outgoing, &self.bounds.outgoing).is_err() {
            step_down(&self.total);
            return Err(ConnectionLimit::Direction);
        }
        Ok(OutgoingPermit { connections: Arc::clone(self) })
    }

    /// Whether no outgoing connection could be opened now.
    pub fn is_full_outgoing(&self) -> bool {
        self.outgoing() >= self.bounds.outgoing.load(Ordering::Relaxed)
            || self.total.load(Ordering::Relaxed) >= self.bounds.total.load(Ordering::Relaxed)
    }

    /// Incoming connections that are open.
    pub fn incoming(&self) -> u32 {
        self.incoming.load(Ordering::Relaxed)
    }

    /// Outgoing connections that are open.
    pub fn outgoing(&self) -> u32 {
        self.outgoing.load(Ordering::Relaxed)
    }

    fn count_address(&self, network: IpAddr) -> bool {
        let mut shard = self.shard(network);
        let count = shard.entry(network).or_insert(0);
        let passes = match self.bounds.per_address.load(Ordering::Relaxed) {
            0 => true,
            limit => *count < limit,
        };
        *count += u32::from(passes);
        passes
    }

    fn forget_address(&self, network: IpAddr) {
        match self.shard(network).entry(network) {
            Entry::Occupied(mut entry) if *entry.get() > 1 => *entry.get_mut() -= 1,
            Entry::Occupied(entry) => drop(entry.remove()),
            Entry::Vacant(_) => unreachable!("a permit's address is counted until it is dropped"),
        }
    }

    fn shard(&self, network: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        let index = (self.hasher.hash_one(network) % ADDRESS_SHARDS as u64) as usize;
        // Nothing panics between two states of a count, so a poisoned table is still right.
        self.addresses[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One incoming connection, counted while this lives.
#[derive(Debug)]
pub struct IncomingPermit {
    connections: Arc<Connections>,
    network: Option<IpAddr>,
}

impl IncomingPermit {
    /// Counts the connection for an address, in place of any that it counted for.
    ///
    /// # Errors
    /// [`ConnectionLimit::Address`]; it counts for none then.
    pub fn name(&mut self, peer: IpAddr) -> Result<(), ConnectionLimit> {
        if let Some(network) = self.network.take() {
            self.connections.forget_address(network);
        }
        let network = network_of(peer);
        if !self.connections.count_address(network) {
            return Err(ConnectionLimit::Address);
        }
        self.network = Some(network);
        Ok(())
    }
}

impl Drop for IncomingPermit {
    fn drop(&mut self) {
        if let Some(network) = self.network {
            self.connections.forget_address(network);
        }
        step_down(&self.connections.incoming);
        step_down(&self.connections.total);
    }
}

/// One outgoing connection, counted while this lives.
#[derive(Debug)]
pub struct OutgoingPermit {
    connections: Arc<Connections>,
}

impl Drop for OutgoingPermit {
    fn drop(&mut self) {
        step_down(&self.connections.outgoing);
        step_down(&self.connections.total);
    }
}

/// What counts as one address: IPv6 hosts own their whole /64, and mapped IPv4 is IPv4.
pub(crate) fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

fn step_up(count: &AtomicU32, max: &AtomicU32) -> Result<u32, u32> {
    let max = max.load(Ordering::Relaxed);
    let step = |old: u32| (old < max).then(|| old + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
}

fn step_down(count: &AtomicU32) {
    let before = count.fetch_sub(1, Ordering::Relaxed);
    assert!(before > 0, "permits are counted when they are made");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator (splitmix64), so that a run can be repeated from its seed.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % sides
        }
    }

    fn seed() -> u64 {
        let seed = std::env::var("ROHRPOST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(0x5eed);
        println!("ROHRPOST_SEED={seed}");
        seed
    }

    #[test]
    fn one_share_can_use_the_whole_budget_and_not_a_byte_more() {
        let budget = MemoryBudget::new(10_000_001, 4);
        let mut share = budget.share();
        assert!(share.reserve(10_000_000));
        assert!(share.reserve(1));
        assert!(!share.reserve(1));
        assert!(!share.reserve(u64::MAX));
        assert_eq!((share.used(), budget.taken()), (10_000_001, 10_000_001));
        share.release(10_000_001);
        drop(share);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn small_reservations_do_not_touch_the_budget() {
        let budget = MemoryBudget::new(1 << 30, 4);
        let mut share = budget.share();
        assert!(share.reserve(1000));
        let taken = budget.taken();
        for _ in 0..1000 {
            assert!(share.reserve(1000));
            share.release(1000);
            assert_eq!(budget.taken(), taken);
        }
    }

    #[test]
    fn idle_shares_hold_at_most_a_quarter() {
        let (bytes_max, workers) = (64 << 20, 256);
        let budget = MemoryBudget::new(bytes_max, workers);
        let mut shares: Vec<_> = (0..workers).map(|_| budget.share()).collect();
        for share in &mut shares {
            assert!(share.reserve(bytes_max / 2));
            share.release(bytes_max / 2);
        }
        assert!(budget.taken() <= bytes_max / 4, "{}", budget.taken());
    }

    #[test]
    #[should_panic(expected = "released more memory than was reserved")]
    fn giving_back_more_than_was_taken_is_a_bug() {
        MemoryBudget::new(1 << 20, 1).share().release(1);
    }

    #[test]
    fn shares_agree_with_a_sum_over_random_steps() {
        let mut dice = Dice(seed());
        let bytes_max = 50_000_000;
        let budget = MemoryBudget::new(bytes_max, 3);
        let mut shares = [budget.share(), budget.share(), budget.share()];
        let mut reserved: [Vec<u64>; 3] = Default::default();
        for _ in 0..20_000 {
            let worker = dice.roll(3) as usize;
            if dice.roll(5) < 3 {
                let bytes = dice.roll(3_000_000);
                if shares[worker].reserve(bytes) {
                    reserved[worker].push(bytes);
                }
            } else if let Some(bytes) = reserved[worker].pop() {
                shares[worker].release(bytes);
            }
            assert_eq!(shares[worker].used(), reserved[worker].iter().sum::<u64>());
            assert!(budget.taken() <= bytes_max);
            assert!(budget.taken() >= shares.iter().map(Share::used).sum());
        }
        drop(shares);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn workers_on_threads_never_pass_the_limit_and_return_all() {
        let seed = seed();
        let budget = MemoryBudget::new(20_000_000, 4);
        let in_use = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (budget, in_use) = (&budget, &in_use);
                scope.spawn(move || {
                    let mut dice = Dice(seed + worker);
                    let mut share = budget.share();
                    for _ in 0..20_000 {
                        let bytes = dice.roll(4_000_000);
                        if share.reserve(bytes) {
                            let sum = in_use.fetch_add(bytes, Ordering::SeqCst) + bytes;
                            assert!(sum <= budget.bytes_max());
                            in_use.fetch_sub(bytes, Ordering::SeqCst);
                            share.release(bytes);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.taken(), 0);
    }

    fn bounds(total: u32, incoming: u32, outgoing: u32, per_address: u32) -> ConnectionBounds {
        ConnectionBounds { total, incoming, outgoing, per_address: NonZeroU32::new(per_address) }
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_refuses_by_name_and_counts_nothing() {
        let connections = Connections::new(bounds(3, 2, 2, 1));
        let first = connections.accept(peer("192.0.2.1")).unwrap();
        let refused = connections.accept(peer("::ffff:192.0.2.1")).unwrap_err();
        assert_eq!(refused, ConnectionLimit::Address);
        let _second = connections.accept(peer("192.0.2.2")).unwrap();
        let refused = connections.accept(peer("192.0.2.3")).unwrap_err();
        assert_eq!(refused, ConnectionLimit::Direction);
        let _out = connections.connect().unwrap();
        assert_eq!(connections.connect().unwrap_err(), ConnectionLimit::Total);
        assert_eq!((connections.incoming(), connections.outgoing()), (2, 1));
        drop(first);
        let _out = connections.connect().unwrap();
        assert_eq!(connections.accept(peer("::1")).unwrap_err(), ConnectionLimit::Total);
        assert_eq!((connections.incoming(), connections.outgoing()), (1, 2));
    }

    #[test]
    fn limits_that_change_leave_open_connections_alone() {
        let connections = Connections::new(bounds(3, 3, 3, 0));
        let open = [(); 3].map(|()| connections.accept(peer("192.0.2.1")).unwrap());
        connections.limit(bounds(2, 2, 2, 1));
        assert_eq!(connections.accept(peer("192.0.2.2")).unwrap_err(), ConnectionLimit::Total);
        drop(open);
        // Those that came without a limit for each address were counted all the same.
        let _first = connections.accept(peer("192.0.2.1")).unwrap();
        assert_eq!(connections.accept(peer("192.0.2.1")).unwrap_err(), ConnectionLimit::Address);
        connections.limit(bounds(3, 3, 3, 0));
        assert!(connections.accept(peer("192.0.2.1")).is_ok());
    }

    #[test]
    fn ipv6_is_counted_by_64_bits_of_prefix() {
        let connections = Connections::new(bounds(10, 10, 10, 1));
        let _first = connections.accept(peer("2001:db8::1")).unwrap();
        assert!(connections.accept(peer("2001:db8::ffff:1")).is_err());
        assert!(connections.accept(peer("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn the_table_of_addresses_holds_only_open_ones() {
        for per_address in [0, 2] {
            let connections = Connections::new(bounds(1000, 1000, 1000, per_address));
            let permits: Vec<_> = (0..500_u32)
                .map(|host| connections.accept(IpAddr::V4((host / 2).into())).unwrap())
                .collect();
            drop(permits);
            assert!(connections.addresses.iter().all(|shard| shard.lock().unwrap().is_empty()));
            assert_eq!(connections.total.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn threads_never_pass_a_limit_and_leave_nothing_behind() {
        let seed = seed();
        let connections = Connections::new(bounds(40, 30, 20, 5));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let connections = &connections;
                scope.spawn(move || {
                    let mut dice = Dice(seed + worker);
                    let mut open = Vec::new();
                    for _ in 0..5_000 {
                        let host = IpAddr::V4((dice.roll(4) as u32).into());
                        match dice.roll(3) {
                            0 => open.extend(connections.accept(host)),
                            _ => drop(open.pop()),
                        }
                        drop(connections.connect());
                        assert!(connections.incoming() <= 30 && connections.outgoing() <= 20);
                    }
                });
            }
        });
        assert_eq!((connections.incoming(), connections.outgoing()), (0, 0));
        assert!(connections.addresses.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
