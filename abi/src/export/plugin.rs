//! `MQX_*` functions on the plugin itself: its settings and its metrics. Any thread may call them.
//!
//! Diagnostics: as in `misuse`.

use std::borrow::Cow;
use std::ffi::{CStr, c_char};
use std::ptr;
use std::slice;

use crate::access::{self, Wanted};
use crate::host::{self, Host};
use crate::metric::{BUCKETS_MAX, Metric, Shape};
use crate::misuse::Misuse;
use crate::setting::setting_key;
use crate::slot::Key;
use crate::token::{Kind, Opaque, Token};

/// How long the key of a setting, a metric's name or its help may be; longer ones are cut off.
const TEXT_BYTES_MAX: usize = 1024;

export! { MQX_setting(plugin: *mut Opaque, key: *const c_char) -> *const c_char = unsafe setting }
export! {
    MQX_counter(plugin: *mut Opaque, name: *const c_char, help: *const c_char) -> *mut Opaque
        = unsafe counter
}
export! {
    MQX_gauge(plugin: *mut Opaque, name: *const c_char, help: *const c_char) -> *mut Opaque
        = unsafe gauge
}
export! {
    MQX_histogram(
        plugin: *mut Opaque,
        name: *const c_char,
        help: *const c_char,
        buckets: *const f64,
        count: usize,
    ) -> *mut Opaque = unsafe histogram
}
export! { MQX_add(metric: *mut Opaque, amount: f64) = add }
export! { MQX_set(metric: *mut Opaque, value: f64) = set }
export! { MQX_observe(metric: *mut Opaque, value: f64) = observe }

/// # Safety
/// `key` is NULL or a NUL-terminated string.
unsafe fn setting(
    function: &'static str,
    plugin: *mut Opaque,
    key: *const c_char,
) -> *const c_char {
    // SAFETY: the caller's promise.
    let key = unsafe { text(key) };
    access::serve_anywhere(function, Wanted::Plugin, plugin, ptr::null(), |host, token| {
        let key = key.ok_or(Misuse::Argument("the key is NULL"))?;
        let value = host.plugins().plugin(token.plugin()).settings.value(&setting_key(&key));
        Ok(value.map_or(ptr::null(), CStr::as_ptr))
    })
}

/// # Safety
/// `name` and `help` are NULL or NUL-terminated strings.
unsafe fn counter(
    function: &'static str,
    plugin: *mut Opaque,
    name: *const c_char,
    help: *const c_char,
) -> *mut Opaque {
    // SAFETY: the caller's promise.
    unsafe { declare(function, plugin, name, help, Ok(Shape::Counter)) }
}

/// # Safety
/// `name` and `help` are NULL or NUL-terminated strings.
unsafe fn gauge(
    function: &'static str,
    plugin: *mut Opaque,
    name: *const c_char,
    help: *const c_char,
) -> *mut Opaque {
    // SAFETY: the caller's promise.
    unsafe { declare(function, plugin, name, help, Ok(Shape::Gauge)) }
}

/// # Safety
/// `name` and `help` are NULL or NUL-terminated strings; `buckets` is NULL or points to `count` numbers.
unsafe fn histogram(
    function: &'static str,
    plugin: *mut Opaque,
    name: *const c_char,
    help: *const c_char,
    buckets: *const f64,
    count: usize,
) -> *mut Opaque {
    let bounds: &[f64] = if buckets.is_null() {
        &[]
    } else {
        // One more than there may be is enough to see that there are too many.
        // SAFETY: not NULL, and so many numbers by the caller's promise.
        unsafe { slice::from_raw_parts(buckets, count.min(BUCKETS_MAX + 1)) }
    };
    // SAFETY: the caller's promise.
    unsafe { declare(function, plugin, name, help, Shape::histogram(bounds)) }
}

fn add(function: &'static str, metric: *mut Opaque, amount: f64) {
    change(function, metric, |metric| metric.add(amount));
}

fn set(function: &'static str, metric: *mut Opaque, value: f64) {
    change(function, metric, |metric| metric.set(value));
}

fn observe(function: &'static str, metric: *mut Opaque, value: f64) {
    change(function, metric, |metric| metric.observe(value));
}

/// # Safety
/// `name` and `help` are NULL or NUL-terminated strings.
unsafe fn declare(
    function: &'static str,
    plugin: *mut Opaque,
    name: *const c_char,
    help: *const c_char,
    shape: Result<Shape, Misuse>,
) -> *mut Opaque {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    let help = unsafe { text(help) };
    access::serve_anywhere(function, Wanted::Plugin, plugin, ptr::null_mut(), |host, token| {
        let name = name.ok_or(Misuse::Argument("the name is NULL"))?;
        let owner = host::setting_name(token.plugin());
        let help = help.unwrap_or_default();
        let place = host.metrics().declare(token.plugin(), &owner, &name, &help, shape?)?;
        let key = Key::from_bits(place as u64);
        Ok(Token::new(Kind::Metric, token.plugin(), 0, key).to_pointer())
    })
}

fn change(
    function: &'static str,
    metric: *mut Opaque,
    f: impl FnOnce(&Metric) -> Result<(), Misuse>,
) {
    access::serve_anywhere(function, Wanted::Metric, metric, (), |host: &Host, token| {
        let stale = Misuse::Stale { kind: Kind::Metric.type_name() };
        f(host.metrics().metric(token.key().slot()).ok_or(stale)?)
    });
}

/// A text of a plugin, of which no more than [`TEXT_BYTES_MAX`] counts.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that outlives the result.
unsafe fn text<'a>(text: *const c_char) -> Option<Cow<'a, str>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let size = unsafe { libc::strnlen(text, TEXT_BYTES_MAX) };
    // SAFETY: strnlen has read that many bytes.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), size) };
    Some(String::from_utf8_lossy(bytes))
}
