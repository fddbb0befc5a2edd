//! The command line: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use rohrpost::{cli, program};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => program::run(command).into(),
        Err(stop) => {
            // A closed terminal cannot be told so.
            let _ = if stop.exit == 0 {
                std::io::stdout().write_all(stop.text.as_bytes())
            } else {
                std::io::stderr().write_all(stop.text.as_bytes())
            };
            stop.exit.into()
        }
    }
}
