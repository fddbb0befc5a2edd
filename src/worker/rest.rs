//! What is on its way in a worker, for whoever drives it turn by turn.
//!
//! Must never: change anything. **Diagnostics**: none.

use rohrpost_abi::Counts;
use rohrpost_reactor::{Handler, Pending};

use crate::metrics::Number;

use super::turn::Worker;

impl Worker {
    /// Nothing is on its way to the disk, to a thread or through the loop, so that only a peer, a plugin
    /// or the clock can make something happen.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending() == Pending::NONE
            && !self.has_work()
            && self.desk.committing.is_empty()
            && self.desk.settlements.is_empty()
            && self.desk.onward.is_empty()
            && self.desk.batch.is_empty()
    }

    /// What lives here for plugins.
    pub(crate) fn live(&self) -> Counts {
        self.desk.plugins.cell.live()
    }

    /// One of this worker's numbers.
    pub(crate) fn number(&self, number: Number) -> u64 {
        self.desk.numbers().value(number)
    }
}
