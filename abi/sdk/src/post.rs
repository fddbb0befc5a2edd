//! The way back to a worker from other threads. Must never: run a closure on the thread that posts it.
//!
//! Diagnostics: false where the worker takes no more; the closure is dropped then.

use std::ffi::c_void;
use std::fmt;

use crate::context::Context;
use crate::edge::guarded;
use crate::ffi::{self, MqContext};
use crate::hold;

/// A worker, for other threads.
#[derive(Clone, Copy)]
pub struct Remote(*mut MqContext);

// SAFETY: it is a number; the one function that is given it, MQX_post, may be called on any thread.
unsafe impl Send for Remote {}
// SAFETY: as above.
unsafe impl Sync for Remote {}

type Job = Box<dyn FnOnce(Context) + Send>;

struct Posted {
    remote: Remote,
    job: Job,
}

impl Remote {
    pub(crate) fn new(context: Context) -> Remote {
        Remote(context.pointer())
    }

    /// Has the worker run `job`, in the order of posting. False if 65,536 wait there already, or the worker
    /// has ended.
    pub fn post(self, job: impl FnOnce(Context) + Send + 'static) -> bool {
        let posted = Box::new(Posted { remote: self, job: Box::new(job) });
        let data = Box::into_raw(posted);
        // SAFETY: `data` is what `run` takes, once.
        let taken = unsafe { ffi::MQX_post(self.0, run, data.cast()) } != 0;
        if !taken {
            // SAFETY: the server has refused it, and calls nothing with it.
            drop(unsafe { Box::from_raw(data) });
        }
        taken
    }
}

extern "C" fn run(data: *mut c_void) {
    // SAFETY: the box of `post`, which the server gives back once.
    let posted = unsafe { Box::from_raw(data.cast::<Posted>()) };
    let Posted { remote, job } = *posted;
    guarded("a posted closure", || job(Context::new(remote.0)));
    hold::take_returns();
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").finish()
    }
}
