//! Examples that bring a library with IO of its own, each with a server that others wrote, or one that
//! misbehaves as no good one would: hiredis with Redis, c-ares with name servers, libcurl with HTTP.
//!
//! The plugins are those of `examples/plugins` as they stand. **Diagnostics**: a failure shows what both
//! servers wrote.

mod dnsbl;
mod http;
mod json;
mod offers;
mod redis;
