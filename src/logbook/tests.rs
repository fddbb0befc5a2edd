//! Forms, lines, and what happens when a file takes nothing.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::handle::QUEUE_ENTRIES_MAX;
use super::*;
use crate::clock::Wall;
use crate::log::Log;
use crate::queue::{Attempt, Mail, Next, Origin, Transaction, TransactionId, Wishes};

/// Far beyond what a test needs; it only ends tests that hang.
const WAIT: Duration = Duration::from_secs(60);
/// 2019-09-23 12:46:56 UTC.
const SAMPLE_MS: u64 = 1_569_242_816_000;
const HOSTNAME: &str = "mx.example.org";

fn attempt() -> Attempt {
    Attempt {
        mail: TransactionId::from_u64(33).mail(2),
        at_ms: SAMPLE_MS,
        next: Next::Delivered,
        state: "message".into(),
        result: "accepted".into(),
        code: 250,
        status: "2.0.0".into(),
        description: "Ok: queued".into(),
        from: Some("192.0.2.1".parse().unwrap()),
        to: Some("192.0.2.25:25".parse().unwrap()),
        facts: Some(r#"{"mta":"mx.example.net","cipher":{"name":"X","bits":256}}"#.into()),
        extras: None,
    }
}

fn wishes() -> Wishes {
    Wishes {
        tags: ["a".into(), "b".into()].into(),
        properties: Some(r#"{"customer-id":12,"x":{"y":"z"}}"#.into()),
        ..Wishes::default()
    }
}

fn transaction() -> Transaction {
    let mail = |index, recipient: &str| Mail {
        index,
        envelope: "alice@example.org".into(),
        recipient: recipient.into(),
        body: crate::queue::NO_BODY,
        dsn: None,
        extras: None,
    };
    Transaction {
        id: TransactionId::from_u64(33),
        received_ms: SAMPLE_MS,
        mails: vec![mail(0, "bob@example.net"), mail(1, "carol@example.net")],
        bodies: Vec::new(),
        trace: Box::default(),
        origin: Origin {
            remote: "192.0.2.7:4711".parse().unwrap(),
            local: "192.0.2.1:25".parse().unwrap(),
            helo: "client.example".into(),
            user: None,
            secure: true,
            authenticated: false,
        },
        eight_bit: false,
        smtputf8: false,
        wishes: None,
        shelf: None,
    }
}

fn page(path: &Path, form: &str, subject: Subject) -> Page {
    Page { path: path.into(), template: Template::parse(form, subject).unwrap() }
}

/// The stamp of the sample in the zone of this machine.
fn stamp() -> String {
    Wall::system().stamp(SAMPLE_MS).to_owned()
}

/// What one log writes of these entries.
fn lines_of(form: &str, subject: Subject, work: impl FnOnce(&Logbook)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let page = Some(page(&path, form, subject));
    let pages = if subject == Subject::Sent { (page, None) } else { (None, page) };
    let (logbook, thread) = Logbook::start(pages, 1, Log::none(), |_| {}).unwrap();
    work(&logbook);
    assert!(thread.unwrap().finish(WAIT));
    std::fs::read_to_string(path).unwrap()
}

fn sent_line(form: &str, attempt: &Attempt, recipient: &str) -> String {
    lines_of(form, Subject::Sent, |logbook| {
        let addresses = ("alice@example.org", recipient);
        let entry = logbook.sent(attempt, 3, addresses, Some(&wishes())).unwrap();
        logbook.offer(entry, 0).unwrap();
    })
}

/// MailerQ's shipped formats, octet by octet.
#[test]
fn the_shipped_formats_make_the_lines_that_scrapers_know() {
    let line = sent_line(Subject::Sent.shipped(), &attempt(), "bob@example.net");
    let expected = format!(
        "[{}] message:accepted 3 <alice@example.org> <bob@example.net> [192.0.2.1] [192.0.2.25] \
         a,b 250 2.0.0 Ok: queued\n",
        stamp()
    );
    assert_eq!(line, expected);
    let line = lines_of(Subject::Received.shipped(), Subject::Received, |logbook| {
        let transaction = transaction();
        for mail in &transaction.mails {
            logbook.offer(logbook.received(&transaction, mail, HOSTNAME).unwrap(), 0).unwrap();
        }
    });
    let at = stamp();
    let expected = format!(
        "[{at}] 000000000001-0 <alice@example.org> <bob@example.net> [192.0.2.7] [192.0.2.1]\n\
         [{at}] 000000000001-1 <alice@example.org> <carol@example.net> [192.0.2.7] [192.0.2.1]\n"
    )
    .replace("000000000001-", &format!("{}-", TransactionId::from_u64(33)));
    assert_eq!(line, expected);
}

/// `smtp-hostname` may change while the server runs.
#[test]
fn a_line_says_what_the_server_was_called_when_the_mail_came() {
    let line = lines_of("{$json.hostname}", Subject::Received, |logbook| {
        let transaction = transaction();
        for name in ["old.example", "new.example"] {
            let entry = logbook.received(&transaction, &transaction.mails[0], name).unwrap();
            logbook.offer(entry, 0).unwrap();
        }
    });
    assert_eq!(line, "old.example\nnew.example\n");
}

#[test]
fn variables_conditions_and_braces() {
    let rows = [
        ("{$email.customer_id}", "12"),
        ("{$email.x.y}", "z"),
        ("{$email.x}", r#"{"y":"z"}"#),
        ("{$email.nothing.here}", ""),
        ("{$result.mta} {$result.cipher.bits}", "mx.example.net 256"),
        ("{if $email.nothing}yes{else}no{/if}", "no"),
        ("{if $email.x}{if $result.code}both{/if}{/if}", "both"),
        ("{if $result.certificate}a{/if}b", "b"),
        ("{ldelim}{$time}{rdelim}", "{1569242816}"),
        ("{ $attempt }", "3"),
        ("", ""),
    ];
    for (form, expected) in rows {
        let line = sent_line(form, &attempt(), "bob@example.net");
        assert_eq!(line, format!("{expected}\n"), "{form}");
    }
}

#[test]
fn what_is_no_form_is_refused_by_name() {
    let deep = "{if $attempt}".repeat(9);
    let rows = [
        ("{$result", "without a `}`"),
        ("{foreach $x in $y}", "{foreach $x in $y}"),
        ("{$result.state|escape}", "modifier"),
        ("{$result.nonsense}", "$result.nonsense"),
        ("{$json.envelope}", "$json.envelope"),
        ("{$email}", "$email"),
        ("{$}", "{$}"),
        ("{$email..x}", "{$email..x}"),
        ("{if $attempt}", "others"),
        ("{/if}", "others"),
        ("{if $attempt}{else}{else}{/if}", "others"),
        ("{if attempt}{/if}", "{if attempt}"),
        ("a\nb", "control"),
        (&deep, "8 deep"),
        (&"x".repeat(5000), "4096"),
    ];
    for (form, named) in rows {
        let error = Template::parse(form, Subject::Sent).unwrap_err().to_string();
        assert!(error.contains(named), "{form}: {error}");
    }
    assert!(Template::parse("{$result.state}", Subject::Received).is_err());
    for subject in [Subject::Sent, Subject::Received] {
        assert!(Template::parse(subject.shipped(), subject).is_ok());
    }
}

/// A server that answers, or a sender with an odd address, writes no lines of its own.
#[test]
fn nobody_writes_a_line_of_somebody_else() {
    let hostile = "a\r\n[2019-01-01 00:00:00] forged\u{2028}\u{1b}[2J\0\t\u{202e}";
    let attempt = Attempt { description: hostile.into(), ..attempt() };
    let line = sent_line("{$email.recipient} {$result.description}", &attempt, hostile);
    assert_eq!(line.matches('\n').count(), 1);
    assert!(line.chars().all(|char| char == '\n' || !char.is_control()), "{line:?}");
    let long = Attempt { description: "\u{e4}".repeat(100_000).into(), ..attempt };
    assert!(sent_line("{$result.description}", &long, "b@c").len() < 2000);
}

#[test]
fn both_logs_may_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let pages = (
        Some(page(&path, "out {$attempt}", Subject::Sent)),
        Some(page(&path, "in {$json.recipient}", Subject::Received)),
    );
    let (logbook, thread) = Logbook::start(pages, 1, Log::none(), |_| {}).unwrap();
    let transaction = transaction();
    let received = logbook.received(&transaction, &transaction.mails[0], HOSTNAME).unwrap();
    logbook.offer(received, 0).unwrap();
    logbook.offer(logbook.sent(&attempt(), 1, ("a@b", "c@d"), None).unwrap(), 0).unwrap();
    assert!(thread.unwrap().finish(WAIT));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "in bob@example.net\nout 1\n");
}

#[test]
fn nothing_is_kept_where_no_file_is_named() {
    let (logbook, thread) = Logbook::start((None, None), 1, Log::none(), |_| {}).unwrap();
    assert!(thread.is_none() && !logbook.logs_sent() && !logbook.logs_received());
    assert!(logbook.sent(&attempt(), 1, ("a@b", "c@d"), None).is_none());
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let missing = Path::new("/nonexistent/folder/log");
    let pages = (Some(page(missing, "x", Subject::Sent)), None);
    let error = Logbook::start(pages, 1, Log::none(), |_| {}).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/folder/log"));
}

/// Log rotation: a file that was moved away, or removed, is made anew; SIGHUP says so at once.
#[test]
fn a_file_that_was_moved_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let pages = (Some(page(&path, "{$attempt}", Subject::Sent)), None);
    let (logbook, thread) = Logbook::start(pages, 1, Log::none(), |_| {}).unwrap();
    let say = |number| {
        logbook.offer(logbook.sent(&attempt(), number, ("a@b", "c@d"), None).unwrap(), 0).unwrap();
    };
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let until = |name: &str, text: &str| {
        let end = std::time::Instant::now() + WAIT;
        while read(name) != text {
            assert!(std::time::Instant::now() < end, "{name} is {:?}", read(name));
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    say(1);
    until("log", "1\n");
    std::fs::rename(&path, folder.path().join("log.1")).unwrap();
    logbook.reopen();
    say(2);
    until("log", "2\n");
    assert_eq!(read("log.1"), "1\n");
    assert!(thread.unwrap().finish(WAIT));
}

/// A pipe whose reader sleeps: entries come back, nothing blocks and nothing is lost; who was refused is
/// told of room.
#[test]
fn a_file_that_takes_nothing_holds_entries_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_bits_truncate(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Nobody reads: that is said at the start, and does not hang.
    let pages = || (Some(page(&path, "{$attempt}", Subject::Sent)), None);
    assert!(Logbook::start(pages(), 1, Log::none(), |_| {}).is_err());
    let mut options = std::fs::OpenOptions::new();
    let mut reader = options.read(true).write(true).open(&path).unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let tell = Arc::clone(&told);
    let (logbook, thread) = Logbook::start(pages(), 1, Log::none(), move |_| {
        tell.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let entry = |number| logbook.sent(&attempt(), number, ("a@b", "c@d"), None).unwrap();
    let mut taken = 0;
    let refused = loop {
        match logbook.offer(entry(taken), 0) {
            Ok(()) => taken += 1,
            Err(entry) => break entry,
        }
        assert!(taken < 100_000, "a pipe and the queue are bounded");
    };
    assert!(taken as usize >= QUEUE_ENTRIES_MAX);
    assert_eq!(told.load(Ordering::SeqCst), 0);
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while told.load(Ordering::SeqCst) == 0 {
        let count = reader.read(&mut buffer).unwrap();
        read.extend_from_slice(&buffer[..count]);
    }
    logbook.offer(refused, 0).unwrap();
    while read.iter().filter(|byte| **byte == b'\n').count() <= taken as usize {
        let count = reader.read(&mut buffer).unwrap();
        read.extend_from_slice(&buffer[..count]);
    }
    let lines: Vec<u32> =
        String::from_utf8(read).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert!(lines.iter().copied().eq(0..=taken), "each line once, in order");
    assert!(thread.unwrap().finish(WAIT));
}
