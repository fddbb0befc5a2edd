//! The command line: arguments in, exit code out.
#![forbid(unsafe_code)]

fn main() {}
