//! Feeds any text to the body in the crate, which asserts its invariants.
//!
//! Owns no logic, so that the body also runs under `cargo test`.
//!
//! Diagnostics: a crash is a finding; libFuzzer writes its input to `artifacts/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rohrpost::extract::fuzz(data));
