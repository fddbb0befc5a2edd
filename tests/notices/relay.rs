//! A next hop that decides by the recipient: `refused…` never, `later…` not now, others yes; and writes
//! down what it was told, so that a test sees each MAIL and RCPT as it was sent.
//!
//! It owns its listener and a thread a connection. **Diagnostics**: none; a connection that breaks is
//! the server's business.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// A mail that the relay took.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// The MAIL command, then each accepted RCPT command.
    pub(super) commands: Vec<String>,
    /// The text, unstuffed, lines with CRLF.
    pub(super) text: String,
}

/// A next hop; its listener lives as long as the test binary.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Relay {
    /// Starts one that offers these extensions beside PIPELINING.
    pub(super) fn start(extensions: &'static [&'static str]) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { address: listener.local_addr().unwrap(), taken: Arc::default() };
        let taken = Arc::clone(&relay.taken);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), taken) = (stream, Arc::clone(&taken)) else { return };
                std::thread::spawn(move || serve(stream, extensions, &taken));
            }
        });
        relay
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mails whose RCPT names `recipient`.
    pub(super) fn taken_by(&self, recipient: &str) -> Vec<Taken> {
        let taken = self.taken.lock().unwrap();
        let named = format!("RCPT TO:<{recipient}>");
        let is_for = |taken: &&Taken| taken.commands.iter().any(|line| line.starts_with(&named));
        taken.iter().filter(is_for).cloned().collect()
    }
}

fn serve(stream: TcpStream, extensions: &[&str], taken: &Mutex<Vec<Taken>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    out.write_all(b"220 relay.example ESMTP\r\n")?;
    let mut mail = Taken::default();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let command = std::mem::take(&mut line).trim_end().to_owned();
        let reply = match command.get(..4).unwrap_or_default() {
            "EHLO" => {
                let offered = extensions.iter().map(|word| format!("250-{word}\r\n"));
                format!("250-relay.example\r\n{}250 PIPELINING", offered.collect::<String>())
            }
            "MAIL" => {
                mail = Taken { commands: vec![command], ..Taken::default() };
                "250 2.1.0 ok".into()
            }
            "RCPT" if command.contains("<refused") => "550 5.1.1 No such user here".into(),
            "RCPT" if command.contains("<later") => "450 4.2.1 Come back later".into(),
            "RCPT" => {
                mail.commands.push(command);
                "250 2.1.5 ok".into()
            }
            "DATA" if mail.commands.len() < 2 => "554 5.5.1 Nobody to send to".into(),
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                while reader.read_line(&mut line)? > 0 && line != ".\r\n" {
                    mail.text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    line.clear();
                }
                line.clear();
                taken.lock().unwrap().push(std::mem::take(&mut mail));
                "250 2.0.0 taken".into()
            }
            "QUIT" => return out.write_all(b"221 2.0.0 bye\r\n"),
            _ => "250 2.0.0 ok".into(),
        };
        out.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}
