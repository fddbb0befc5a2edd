//! The plugin itself: its settings and its metrics. Must never: be made up; the server gives it out.
//!
//! Diagnostics: `None` for a setting that is not set; a [`Failure`] for a metric that the server refuses.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr;
use std::str::FromStr;

use crate::failure::Failure;
use crate::ffi::{self, MqMetric, MqPlugin};
use crate::log::c_string;

/// This plugin, for its settings and metrics; valid for good, on any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup(*mut MqPlugin);

// SAFETY: a number; every function that is given it may be called on any thread.
unsafe impl Send for Setup {}
// SAFETY: as above.
unsafe impl Sync for Setup {}

impl Setup {
    pub(crate) fn new(pointer: *mut MqPlugin) -> Setup {
        Setup(pointer)
    }

    /// The administrator's setting `plugin-NAME-KEY`, where NAME is the file's name without number and `.so`.
    pub fn setting(self, key: &str) -> Option<String> {
        let key = c_string(key);
        // SAFETY: the key is a NUL-terminated string that outlives the call.
        let value = unsafe { ffi::MQX_setting(self.0, key.as_ptr()) };
        if value.is_null() {
            return None;
        }
        // SAFETY: not NULL, and a string that stays as it is for good.
        let value = unsafe { CStr::from_ptr(value) };
        Some(value.to_string_lossy().into_owned())
    }

    /// The same, read as a value of this type; `default` if it is not set.
    ///
    /// # Errors
    /// It is set and is none. The text names the key and the value.
    pub fn setting_or<T: FromStr>(self, key: &str, default: T) -> Result<T, Failure>
    where
        T::Err: fmt::Display,
    {
        match self.setting(key) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|error| Failure::new(format_args!("{key}: {text}: {error}")))
            }
        }
    }

    /// A metric that only rises. Its name has letters, digits and `_`.
    ///
    /// # Errors
    /// The name will not do, is that of another kind of metric already, or there are 256 metrics.
    pub fn counter(self, name: &str, help: &str) -> Result<Metric, Failure> {
        self.metric(name, help, |plugin, name, help| {
            // SAFETY: both are NUL-terminated strings that outlive the call.
            unsafe { ffi::MQX_counter(plugin, name, help) }
        })
    }

    /// A metric that rises and falls.
    ///
    /// # Errors
    /// As [`Setup::counter`].
    pub fn gauge(self, name: &str, help: &str) -> Result<Metric, Failure> {
        self.metric(name, help, |plugin, name, help| {
            // SAFETY: both are NUL-terminated strings that outlive the call.
            unsafe { ffi::MQX_gauge(plugin, name, help) }
        })
    }

    /// A metric that counts how many values come up to each of its buckets, whose bounds rise; none for the
    /// usual ones, from 5 ms to 10 s in seconds.
    ///
    /// # Errors
    /// As [`Setup::counter`], and for more than 64 buckets or bounds that do not rise.
    pub fn histogram(self, name: &str, help: &str, buckets: &[f64]) -> Result<Metric, Failure> {
        let start = if buckets.is_empty() { ptr::null() } else { buckets.as_ptr() };
        self.metric(name, help, |plugin, name, help| {
            // SAFETY: both are NUL-terminated strings that outlive the call, and so many bounds can be read.
            unsafe { ffi::MQX_histogram(plugin, name, help, start, buckets.len()) }
        })
    }

    fn metric(
        self,
        name: &str,
        help: &str,
        make: impl FnOnce(*mut MqPlugin, *const c_char, *const c_char) -> *mut MqMetric,
    ) -> Result<Metric, Failure> {
        let (text, help) = (c_string(name), c_string(help));
        let metric = make(self.0, text.as_ptr(), help.as_ptr());
        if metric.is_null() {
            return Err(Failure::new(format_args!("the server refused the metric {name}")));
        }
        Ok(Metric(metric))
    }
}

/// A metric of this plugin; any thread may use it, without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric(*mut MqMetric);

// SAFETY: a number; what is given it is atomic, and may be called on any thread.
unsafe impl Send for Metric {}
// SAFETY: as above.
unsafe impl Sync for Metric {}

impl Metric {
    /// Adds to a counter or a gauge.
    pub fn add(self, amount: f64) {
        ffi::MQX_add(self.0, amount);
    }

    /// Sets a gauge.
    pub fn set(self, value: f64) {
        ffi::MQX_set(self.0, value);
    }

    /// Puts a value into a histogram.
    pub fn observe(self, value: f64) {
        ffi::MQX_observe(self.0, value);
    }
}
