//! `MQX_version`, by which a plugin tells which extensions there are.
//!
//! Diagnostics: none.

use std::ffi::c_int;

/// The version of the extensions: the header's `MQX_VERSION`.
pub const EXTENSIONS_VERSION: i32 = 1;

export! { MQX_version() -> c_int = version }

fn version(_function: &'static str) -> c_int {
    EXTENSIONS_VERSION
}
