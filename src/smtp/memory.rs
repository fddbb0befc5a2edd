//! The budget that bodies are charged to.
//!
//! Owns the trait alone; the budget itself belongs to the driver, one share a worker. Sessions never
//! hold a body octet that is not reserved here first.
//!
//! Diagnostics: none. A refused reservation becomes `452 4.3.1` to the client.

/// A budget of body memory, in bytes.
///
/// Every byte reserved is given back exactly once: by the session when a transaction is dropped, or by
/// the driver for what came to it with a message.
pub trait Memory {
    /// Takes `bytes` out of the budget, or refuses and takes nothing.
    #[must_use]
    fn reserve(&mut self, bytes: usize) -> bool;

    /// Gives `bytes` back that were reserved before.
    fn release(&mut self, bytes: usize);
}

/// A budget without a limit, for tools and tests that bound their input themselves.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unlimited;

impl Memory for Unlimited {
    fn reserve(&mut self, _bytes: usize) -> bool {
        true
    }

    fn release(&mut self, _bytes: usize) {}
}
