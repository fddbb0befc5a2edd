//! The arguments of `rohrpost load`: how much mail, of which kind, how fast, over what.
//!
//! Never sends any of it, and never looks a host up.
//!
//! Diagnostics: as the rest of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::required;
use crate::smtp::Address;

/// A load to put on a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Load {
    /// Whom to send to, as `HOST:PORT`.
    pub target: String,
    /// How many connections there are at a time.
    pub connections: u32,
    /// When it ends.
    pub extent: Extent,
    /// How large messages are; one at least.
    pub sizes: Vec<Share>,
    /// Messages after which a connection makes room for a new one; `None` keeps it to the end.
    pub per_connection: Option<u64>,
    /// How much is sent ahead of replies.
    pub flight: Flight,
    /// Whether and when TLS begins. No certificate is verified.
    pub tls: LoadTls,
    /// Who to log in as.
    pub login: Option<LoginFile>,
    /// The sender of each message; empty for the null path.
    pub from: String,
    /// The recipient, or the pattern of many.
    pub to: String,
    /// Recipients of each message.
    pub recipients: u32,
    /// Domains that recipients are spread over.
    pub domains: u32,
    /// Messages a second, whatever the server makes of it; `None` sends as fast as replies come.
    pub rate: Option<u32>,
    /// Threads, each with its share of the connections.
    pub threads: u32,
    /// How long a server may take to answer.
    pub timeout: Duration,
    /// Whether connections are only opened and held (`--idle`).
    pub idle: bool,
    /// Whether to print one JSON object (`--json`).
    pub json: bool,
}

/// When a load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After so many messages.
    Messages(u64),
    /// After so long.
    Time(Duration),
}

/// Messages of some sizes among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Octets of the smallest.
    pub least: u32,
    /// Octets of the largest; all between are as likely.
    pub most: u32,
    /// How often they come, beside the weights of the other shares; 1 at least.
    pub weight: u32,
}

/// How much of a message is sent ahead of replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flight {
    /// Each command waits for the reply to the one before it.
    Lockstep,
    /// MAIL, RCPT and DATA together, then the text (RFC 2920).
    Pipelined,
    /// MAIL, RCPT and the text as one chunk together (RFC 3030).
    Bdat,
}

/// Whether and when TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadTls {
    /// Never.
    Off,
    /// After STARTTLS; a server that does not offer it is not used.
    StartTls,
    /// With the first octet.
    Implicit,
}

/// A user, and where the password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    /// The name.
    pub user: String,
    /// A file whose first line is the password.
    pub password_file: PathBuf,
}

/// More connections than ports of one address.
const CONNECTIONS_MAX: i64 = 100_000;
const THREADS_MAX: i64 = 256;
const RECIPIENTS_MAX: i64 = 50_000;
const DOMAINS_MAX: i64 = 1_000_000;
/// A message a second faster than this is one that no machine sends.
const RATE_MAX: i64 = 10_000_000;
/// Octets of the largest message: 256 MiB.
const OCTETS_MAX: u32 = 256 << 20;
/// A message holds the end of a line at least.
const OCTETS_MIN: u32 = 2;
/// A week.
const SECONDS_MAX: u64 = 604_800;
/// RFC 5321 4.5.3.2 knows nothing longer than ten minutes; an hour is beyond patience.
const TIMEOUT_S_MAX: u64 = 3_600;
const MESSAGES_DEFAULT: u64 = 10_000;

pub(super) fn command() -> clap::Command {
    let extent = [
        option("messages", "N")
            .value_parser(value_parser!(u64).range(1..))
            .conflicts_with("seconds")
            .help("Send so many messages in all [default: 10000]"),
        option("seconds", "S")
            .value_parser(value_parser!(u64).range(1..=SECONDS_MAX))
            .help("Send for so long"),
    ];
    clap::Command::new("load")
        .about("Send mail as fast as a server takes it, or at a rate, and measure")
        .after_help(AFTER)
        .arg(
            Arg::new("target")
                .value_name("HOST:PORT")
                .required(true)
                .value_parser(target)
                .help("The server"),
        )
        .args(extent)
        .args(connecting())
        .args(messages())
        .args(securing())
        .args(behaving())
}

/// What the help of the command ends with.
const AFTER: &str = "\
The latency of a message runs from its last octet to its final reply; with --rate, from when it was due, \
so that a server which falls behind shows it. The exit code is 0 if every message was accepted for every \
recipient, and 1 if not.";

fn option(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

fn connecting() -> [Arg; 4] {
    [
        option("connections", "N")
            .value_parser(value_parser!(u32).range(1..=CONNECTIONS_MAX))
            .default_value("50")
            .help("Connections at a time"),
        option("per-connection", "N")
            .value_parser(value_parser!(u64))
            .default_value("0")
            .help("Open a new connection after N messages; 0 keeps each to the end"),
        option("threads", "N")
            .value_parser(value_parser!(u32).range(1..=THREADS_MAX))
            .default_value("1")
            .help("Threads, each with its share of the connections"),
        option("timeout", "SECONDS")
            .value_parser(value_parser!(u64).range(1..=TIMEOUT_S_MAX))
            .default_value("60")
            .help("Give up a connection that the server lets wait so long"),
    ]
}

fn messages() -> [Arg; 6] {
    [
        option("octets", "SIZES")
            .value_parser(sizes)
            .default_value("4K")
            .help("Sizes of messages: 4K, or 1K-64K, or with weights 4K=90,100K=10"),
        option("flight", "HOW")
            .value_parser(["lockstep", "pipelined", "bdat"])
            .default_value("lockstep")
            .help("How much goes out ahead of replies: nothing; MAIL, RCPT and DATA; all of it"),
        option("from", "ADDRESS")
            .value_parser(sender)
            .default_value("sender@load.example")
            .help("The sender of each message; empty for a bounce's"),
        option("to", "ADDRESS")
            .value_parser(recipient)
            .default_value("recipient@load.example")
            .help("The recipient; of several, local parts and domains are numbered"),
        option("recipients", "N")
            .value_parser(value_parser!(u32).range(1..=RECIPIENTS_MAX))
            .default_value("1")
            .help("Recipients of each message"),
        option("domains", "N")
            .value_parser(value_parser!(u32).range(1..=DOMAINS_MAX))
            .default_value("1")
            .help("Spread recipients over N domains: 1.load.example, 2.load.example"),
    ]
}

fn securing() -> [Arg; 3] {
    [
        option("tls", "WHEN")
            .value_parser(["off", "starttls", "implicit"])
            .default_value("off")
            .help("When TLS begins; certificates are not verified"),
        option("login", "USER")
            .requires("password-file")
            .help("Log in on each connection; in clear only to this machine"),
        option("password-file", "FILE")
            .value_parser(value_parser!(PathBuf))
            .requires("login")
            .help("A file whose first line is the password"),
    ]
}

fn behaving() -> [Arg; 3] {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    [
        option("rate", "R")
            .value_parser(value_parser!(u32).range(1..=RATE_MAX))
            .help("Send R messages a second, whether or not the server keeps up"),
        flag("idle")
            .conflicts_with_all(["rate", "messages", "seconds", "per-connection"])
            .help("Only open the connections, say when all are open, hold them until SIGTERM"),
        flag("json").help("Print one JSON object"),
    ]
}

pub(super) fn read(matches: &ArgMatches) -> Load {
    let word = |name: &str| required::<String>(matches, name);
    let extent = match matches.get_one::<u64>("seconds") {
        Some(seconds) => Extent::Time(Duration::from_secs(*seconds)),
        None => Extent::Messages(matches.get_one("messages").copied().unwrap_or(MESSAGES_DEFAULT)),
    };
    Load {
        target: word("target"),
        connections: required(matches, "connections"),
        extent,
        sizes: required(matches, "octets"),
        per_connection: Some(required(matches, "per-connection")).filter(|count| *count > 0),
        flight: match word("flight").as_str() {
            "pipelined" => Flight::Pipelined,
            "bdat" => Flight::Bdat,
            _ => Flight::Lockstep,
        },
        tls: match word("tls").as_str() {
            "starttls" => LoadTls::StartTls,
            "implicit" => LoadTls::Implicit,
            _ => LoadTls::Off,
        },
        login: matches.get_one::<String>("login").map(|user| LoginFile {
            user: user.clone(),
            password_file: required(matches, "password-file"),
        }),
        from: word("from"),
        to: word("to"),
        recipients: required(matches, "recipients"),
        domains: required(matches, "domains"),
        rate: matches.get_one("rate").copied(),
        threads: required(matches, "threads"),
        timeout: Duration::from_secs(required(matches, "timeout")),
        idle: matches.get_flag("idle"),
        json: matches.get_flag("json"),
    }
}

fn target(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no `:`, as in mx.example:25")?;
    let named = !host.is_empty() && (!host.contains(':') || host.starts_with('['));
    let port = port.parse::<u16>().is_ok_and(|port| port > 0);
    match (named, port) {
        (true, true) => Ok(text.to_owned()),
        (false, _) => Err("no host before the port, as in mx.example:25 or [::1]:25".into()),
        (true, false) => Err("the port is not from 1 to 65535".into()),
    }
}

fn sender(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { recipient(text) }
}

fn recipient(text: &str) -> Result<String, String> {
    if !text.contains('@') {
        return Err("it has no domain, as in user@example.org".into());
    }
    let address = Address::parse(text).map_err(|error| error.to_string())?;
    if !address.is_ascii() {
        return Err("it is not ASCII, which not every server takes".into());
    }
    Ok(text.to_owned())
}

/// Reads `4K`, `1K-64K` or `4K=90,100K=10`.
fn sizes(text: &str) -> Result<Vec<Share>, String> {
    text.split(',').map(share).collect()
}

fn share(text: &str) -> Result<Share, String> {
    let (range, weight) = text.split_once('=').unwrap_or((text, "1"));
    let (least, most) = range.split_once('-').unwrap_or((range, range));
    let (least, most) = (octets(least)?, octets(most)?);
    if least > most {
        return Err(format!("`{range}` ends below its start"));
    }
    let weight = weight.parse().ok().filter(|weight| (1..=1_000_000).contains(weight));
    let weight =
        weight.ok_or_else(|| format!("the weight in `{text}` is not from 1 to 1000000"))?;
    Ok(Share { least, most, weight })
}

fn octets(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let octets = digits.parse::<u32>().ok().and_then(|count| count.checked_mul(unit));
    octets
        .filter(|octets| (OCTETS_MIN..=OCTETS_MAX).contains(octets))
        .ok_or_else(|| format!("`{text}` is no size from 2 octets to 256M, as in 4K"))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Command, EXIT_USAGE, Stop, parse};
    use super::*;

    fn parse_words(line: &str) -> Result<Command, Stop> {
        parse(std::iter::once("rohrpost").chain(line.split_whitespace()).map(OsString::from))
    }

    fn load(line: &str) -> Load {
        match parse_words(line) {
            Ok(Command::Load(load)) => load,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_load_is_small_and_plain_unless_told_otherwise() {
        let expected = Load {
            target: "mx.example:25".to_owned(),
            connections: 50,
            extent: Extent::Messages(10_000),
            sizes: vec![Share { least: 4096, most: 4096, weight: 1 }],
            per_connection: None,
            flight: Flight::Lockstep,
            tls: LoadTls::Off,
            login: None,
            from: "sender@load.example".to_owned(),
            to: "recipient@load.example".to_owned(),
            recipients: 1,
            domains: 1,
            rate: None,
            threads: 1,
            timeout: Duration::from_secs(60),
            idle: false,
            json: false,
        };
        assert_eq!(load("load mx.example:25"), expected);
    }

    #[test]
    fn a_load_takes_all_its_options() {
        let line = "load [::1]:2525 --connections 200 --seconds 5 --octets 4K=90,1k-100K=10 \
                    --per-connection 3 --flight bdat --tls starttls --login u --password-file /p \
                    --from= --to a@b.example --recipients 7 --domains 9 --rate 1000 --threads 2 \
                    --timeout 5 --json";
        let sizes = vec![
            Share { least: 4096, most: 4096, weight: 90 },
            Share { least: 1024, most: 102_400, weight: 10 },
        ];
        let expected = Load {
            target: "[::1]:2525".to_owned(),
            connections: 200,
            extent: Extent::Time(Duration::from_secs(5)),
            sizes,
            per_connection: Some(3),
            flight: Flight::Bdat,
            tls: LoadTls::StartTls,
            login: Some(LoginFile { user: "u".to_owned(), password_file: "/p".into() }),
            from: String::new(),
            to: "a@b.example".to_owned(),
            recipients: 7,
            domains: 9,
            rate: Some(1000),
            threads: 2,
            timeout: Duration::from_secs(5),
            idle: false,
            json: true,
        };
        assert_eq!(load(line), expected);
        assert!(load("load h:1 --idle --connections 10000").idle);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let cases = [
            ("", "<HOST:PORT>"),
            ("here", "it has no `:`"),
            (":25", "no host"),
            ("::1:25", "[::1]:25"),
            ("h:0", "1 to 65535"),
            ("h:1 --octets 0", "2 octets to 256M"),
            ("h:1 --octets 1G", "2 octets to 256M"),
            ("h:1 --octets 4K-1K", "ends below its start"),
            ("h:1 --octets 4K=0", "not from 1 to 1000000"),
            ("h:1 --octets 4096M", "2 octets to 256M"),
            ("h:1 --messages 1 --seconds 1", "cannot be used with"),
            ("h:1 --idle --rate 5", "cannot be used with"),
            ("h:1 --login u", "--password-file"),
            ("h:1 --flight fast", "lockstep"),
            ("h:1 --to nobody", "domain"),
            ("h:1 --connections 0", "connections"),
        ];
        for (line, part) in cases {
            let stop = parse_words(&format!("load {line}")).unwrap_err();
            assert_eq!(stop.exit, EXIT_USAGE, "{line}");
            assert!(stop.text.contains(part), "{line}: {}", stop.text);
        }
    }
}
