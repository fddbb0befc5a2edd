//! Tests of the settings as an administrator meets them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::mailerq::MAILERQ_KEYS;
use super::source::read_lines;
use super::*;
use crate::log::{Level, Target};

fn machine() -> Machine {
    Machine {
        cpus: 4,
        memory_bytes: 8 << 30,
        descriptors: 100_000,
        hostname: "mail.example.com".into(),
    }
}

/// A directory of one test's own, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("rohrpost-settings-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn arguments(pairs: &[(&str, &str)]) -> Arguments {
    let values = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Arguments { config_file: None, values }
}

/// Sources with a queue directory that is there on every machine.
fn sources(pairs: &[(&str, &str)]) -> Sources {
    let mut arguments = arguments(pairs);
    arguments.values.insert(0, ("queue-directory".into(), "/tmp".into()));
    Sources { arguments, ..Sources::default() }
}

fn load(pairs: &[(&str, &str)]) -> Settings {
    match Settings::load(&sources(pairs), &machine()) {
        Ok(loaded) => loaded.settings,
        Err(report) => panic!("{report}"),
    }
}

/// The errors and the warnings that some settings cause, as text.
fn complaints(sources: &Sources) -> (Vec<String>, Vec<String>) {
    let text = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
    match Settings::load(sources, &machine()) {
        Ok(loaded) => (vec![], text(loaded.warnings)),
        Err(report) => (text(report.errors), text(report.warnings)),
    }
}

#[track_caller]
fn assert_contains(lines: &[String], parts: &[&str]) {
    let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no line has all of {parts:?}: {lines:#?}");
}

#[test]
fn nothing_set_gives_the_documented_defaults() {
    let settings = Settings::defaults(&machine());
    assert_eq!(settings.smtp.listen, ListenIp::All);
    assert_eq!(settings.smtp.ports, [25]);
    assert_eq!(settings.smtp.threads, 4);
    assert_eq!(settings.smtp.hostname, "mail.example.com");
    assert_eq!(settings.smtp.message_bytes_max, 100_000_000);
    assert_eq!(settings.smtp.connections_max, 50_000);
    let bounds = settings.smtp.connection_bounds();
    assert_eq!((bounds.total, bounds.incoming, bounds.outgoing), (50_000, 50_000, 50_000));
    assert_eq!(settings.smtp.connections_per_address_max, NonZeroU32::new(1000));
    assert_eq!(settings.general.memory_bytes_max, 4 << 30);
    assert_eq!(settings.delivery.smarthost, None);
    let intervals = [600, 600, 1800, 1800, 3600, 3600, 7200].map(Duration::from_secs);
    assert_eq!(settings.delivery.retry_intervals, intervals);
    assert_eq!(settings.delivery.attempts_max, None);
    assert_eq!(settings.plugin.block_warning, Some(Duration::from_millis(50)));
    assert_eq!(settings.logging.targets, [Target::Stderr]);
    assert!(!settings.is_set("smtp-port"));
}

#[test]
fn defaults_are_valid_on_the_smallest_and_the_largest_machine() {
    let small = Machine { cpus: 1, memory_bytes: 1, descriptors: 1, hostname: "a".into() };
    let large = Machine {
        cpus: u32::MAX,
        memory_bytes: 1 << 40,
        descriptors: u64::MAX,
        hostname: ["x"; 100].join("."),
    };
    for machine in [small, large] {
        for key in keys() {
            let default = key.default_on(&machine);
            assert_eq!(key.check(&default), Ok(()), "{} `{default}`", key.name);
        }
        let settings = Settings::defaults(&machine);
        assert!(settings.general.memory_bytes_max >= 64 << 20);
    }
}

#[test]
fn each_source_overrides_the_one_before() {
    let directory = Directory::new("precedence");
    let main = "smtp-port: 1\nsmtp-errors: 1\nsmtp-recipients: 1\nsmtp-threads: 1\n";
    let main_file = directory.file("main", main);
    let extra = "smtp-errors: 2\nsmtp-recipients: 2\nsmtp-threads: 2\n";
    let config_file = directory.file("extra", extra);
    let mut sources = sources(&[("smtp-threads", "9"), ("smtp-threads", "4")]);
    sources.main_file = Some(main_file);
    sources.arguments.config_file = Some(config_file);
    let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
    sources.environment = vec![
        variable("ROHRPOST_SMTP_RECIPIENTS", "3"),
        variable("ROHRPOST_SMTP_THREADS", "3"),
        variable("PATH", "/bin"),
    ];
    let settings = Settings::load(&sources, &machine()).unwrap().settings;
    assert_eq!(settings.smtp.ports, [1]);
    assert_eq!(settings.smtp.errors_max, NonZeroU32::new(2));
    assert_eq!(settings.smtp.recipients_max, 3);
    assert_eq!(settings.smtp.threads, 4);
    assert!(settings.is_set("smtp-port") && !settings.is_set("smtp-pin"));
}

#[test]
fn the_main_file_may_be_absent_and_the_other_may_not() {
    let absent = PathBuf::from("/nonexistent/config.txt");
    let mut sources = sources(&[]);
    sources.main_file = Some(absent.clone());
    assert_eq!(complaints(&sources).0, Vec::<String>::new());
    sources.arguments.config_file = Some(absent);
    let (errors, _) = complaints(&sources);
    assert_contains(&errors, &["/nonexistent/config.txt: the file cannot be read: No such file"]);
}

#[test]
fn a_file_that_is_too_large_or_no_text_is_refused() {
    let directory = Directory::new("files");
    for (name, bytes, part) in [
        ("large", vec![b'#'; (1 << 20) + 1], "more than 1048576 bytes"),
        ("binary", vec![0xff, 0xfe], "UTF-8"),
    ] {
        let mut sources = sources(&[]);
        sources.main_file = Some(directory.file(name, bytes));
        assert_contains(&complaints(&sources).0, &[name, part]);
    }
}

#[test]
fn lines_are_read_with_free_blanks_and_comments() {
    let text = "\u{feff}# comment\r\n\r\n  smtp-port :  25 \r\nsmarthost:\n\t#x: y\n\
                application-log: /var/log/a:b\nno colon\n";
    let (mut found, mut report) = (Vec::new(), Report::default());
    read_lines(Path::new("f"), text, &mut found, &mut report);
    let pairs: Vec<_> =
        found.iter().map(|found| (found.name.as_str(), found.value.as_str())).collect();
    let expected = [("smtp-port", "25"), ("smarthost", ""), ("application-log", "/var/log/a:b")];
    assert_eq!(pairs, expected);
    assert_eq!(found[0].origin.to_string(), "f:3: ");
    assert_eq!(report.to_string(), "error: f:7: the line is not `key: value`\n");
}

#[test]
fn all_problems_are_reported_with_their_place_even_those_overridden() {
    let directory = Directory::new("problems");
    let text = "smtp-port: abc\nsmtp-prot: 25\nrabbitmq-address: amqp://x\nsmtp-threads: 0\n";
    let path = directory.file("config", text);
    let mut sources = sources(&[("smtp-port", "26"), ("smtp-timeout", "soon")]);
    sources.main_file = Some(path.clone());
    sources.environment = vec![("ROHRPOST_SMTP_MAXSIZE".into(), "1".into())];
    let (errors, warnings) = complaints(&sources);
    let at = |line: u32| format!("{}:{line}: ", path.display());
    assert_contains(&errors, &[&at(1), "smtp-port `abc`", "; allowed: ports and ranges"]);
    assert_contains(&errors, &[&at(2), "`smtp-prot`", "did you mean `smtp-port`?"]);
    assert_contains(&warnings, &[&at(3), "`rabbitmq-address` is a setting of MailerQ"]);
    assert_contains(&errors, &[&at(4), "smtp-threads `0` is out of range", "from 1 to 256"]);
    assert_contains(&errors, &["environment ROHRPOST_SMTP_MAXSIZE: ", "`1` is out of range"]);
    assert_contains(&errors, &["command line: smtp-timeout `soon`", "seconds from 1 to 86400"]);
    assert_eq!(errors.len(), 5, "{errors:#?}");
}

#[test]
fn a_key_set_twice_in_one_file_is_warned_of_and_the_last_line_holds() {
    let directory = Directory::new("twice");
    let mut sources = sources(&[]);
    sources.main_file = Some(directory.file("config", "smtp-port: 1\nsmtp-port: 2\n"));
    let loaded = Settings::load(&sources, &machine()).unwrap();
    assert_eq!(loaded.settings.smtp.ports, [2]);
    assert!(loaded.warnings.iter().any(|warning| warning.text.contains("a second time")));
}

#[test]
fn names_that_resemble_nothing_get_no_suggestion() {
    for name in ["zzz", "", &"smtp-port".repeat(100)] {
        let (errors, _) = complaints(&sources(&[(name, "1")]));
        assert_eq!(errors.len(), 1);
        assert!(errors[0].ends_with("is not a setting"), "{errors:?}");
    }
}

#[test]
fn variables_of_container_systems_do_not_keep_us_from_starting() {
    let mut sources = sources(&[]);
    sources.environment = vec![("ROHRPOST_SERVICE_HOST".into(), "10.0.0.1".into())];
    let (errors, warnings) = complaints(&sources);
    assert!(errors.is_empty());
    assert_contains(&warnings, &["environment ROHRPOST_SERVICE_HOST: names no setting"]);
}

#[test]
fn a_variable_that_is_not_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let mut sources = sources(&[]);
    let value = OsString::from_vec(vec![0xff]);
    sources.environment = vec![("ROHRPOST_SMTP_PORT".into(), value)];
    assert_contains(&complaints(&sources).0, &["ROHRPOST_SMTP_PORT", "not valid UTF-8"]);
}

#[test]
fn every_name_of_mailerq_is_either_ours_or_warned_of() {
    let names: HashSet<_> = MAILERQ_KEYS.iter().copied().flatten().collect();
    assert_eq!(names.len(), 135);
    for name in names {
        let foreign = foreign_keys().any(|foreign| foreign == *name);
        assert_eq!(foreign, lookup(name).is_none(), "{name}");
        if foreign {
            let (errors, warnings) = complaints(&sources(&[(name, "whatever")]));
            assert!(errors.is_empty(), "{errors:?}");
            assert_contains(&warnings, &[&format!("command line: `{name}` is ")]);
        }
    }
}

#[test]
fn secrets_of_foreign_settings_are_not_repeated() {
    let (_, warnings) = complaints(&sources(&[("smtp-sink-password", "hunter2")]));
    assert!(warnings.iter().all(|warning| !warning.contains("hunter2")));
}

#[test]
fn the_password_of_the_smarthost_is_never_shown() {
    let login = |password| [("smarthost-username", "u"), ("smarthost-password", password)];
    let settings = load(&login("hunter2"));
    assert_eq!(settings.hop.password.expose(), "hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
    let (errors, warnings) = complaints(&sources(&login("hunter2\0")));
    assert_contains(&errors, &["smarthost-password", "control characters"]);
    assert!(errors.iter().chain(&warnings).all(|text| !text.contains("hunter2")));
    let (errors, _) = complaints(&sources(&[("smarthost-password", "hunter2")]));
    assert_contains(&errors, &["smarthost-username", "both or none"]);
}

#[test]
fn names_and_aliases_are_unique_and_every_row_is_explained() {
    let mut seen = HashSet::new();
    for key in keys() {
        for name in std::iter::once(&key.name).chain(key.aliases) {
            assert!(seen.insert(*name), "{name} is twice in the table");
        }
        assert!(key.meaning().ends_with('.'), "{}", key.name);
        assert!(!key.allowed().is_empty() && !key.allowed().contains('|'));
    }
}

#[test]
fn aliases_set_the_key_they_stand_for() {
    let settings = load(&[("smtp-ranges", "192.0.2.0/24"), ("max-deliver-time", "60")]);
    assert!(!settings.smtp.clients.contains("127.0.0.1".parse().unwrap()));
    assert_eq!(settings.delivery.lifetime, Duration::from_secs(60));
    assert!(settings.is_set("smtp-range"));
}

/// Values that a key takes or refuses, as the key's own check says.
#[test]
fn values_are_taken_or_refused() {
    let cases: &[(&str, &str, bool)] = &[
        ("smtp-port", "0", true),
        ("smtp-port", "0,0", true),
        ("smtp-port", "25,587,1024-1026", true),
        ("smtp-port", "25, 587", true),
        ("smtp-port", "", false),
        ("smtp-port", "25,,26", false),
        ("smtp-port", "25,24-26", false),
        ("smtp-port", "0-5", false),
        ("smtp-port", "26-25", false),
        ("smtp-port", "1-65535", false),
        ("smtp-port", "65536", false),
        ("smtp-port", "+25", false),
        ("smtp-port", "-25", false),
        ("smtp-port", "２５", false),
        ("smtp-ip", "all", true),
        ("smtp-ip", "127.0.0.1,[::1]", true),
        ("smtp-ip", "0.0.0.0", true),
        ("smtp-ip", "", false),
        ("smtp-ip", "localhost", false),
        ("smtp-maxsize", "100MB", true),
        ("smtp-maxsize", "64K", true),
        ("smtp-maxsize", "1000", false),
        ("smtp-maxsize", "1 MiB", true),
        ("smtp-maxsize", "1.5MB", false),
        ("smtp-maxsize", "MB", false),
        ("smtp-maxsize", "1048512KiB", true),
        ("smtp-maxsize", "1048513KiB", false),
        ("smtp-maxsize", "1GiB", false),
        ("smtp-maxsize", "1PB", false),
        ("smtp-maxsize", "99999999999999999999999", false),
        ("smtp-maxsize", "99999999999999TB", false),
        ("queue-min-free", "0", true),
        ("smtp-timeout", "5m", true),
        ("smtp-timeout", "1500ms", true),
        ("smtp-timeout", "0", false),
        ("smtp-timeout", "5 minutes", false),
        ("smtp-timeout", "99999999999999999999d", false),
        ("plugin-timeout", "0", true),
        ("plugin-timeout", "2d", false),
        ("smtp-pin", "AUTO", true),
        ("smtp-pin", "on", false),
        ("smtp-range", "10.0.0.0/8; 2001:db8::/32", true),
        ("smtp-range", "", true),
        ("smtp-range", "10.0.0.1/8", false),
        ("smtp-range", "10.0.0.0/33", false),
        ("smtp-range", "10.0.0.0/", false),
        ("smtp-range", "10.0.0", false),
        ("smtp-hostname", "a_b.example", true),
        ("smtp-hostname", "", false),
        ("smtp-hostname", "a..b", false),
        ("smtp-hostname", "-a.b", false),
        ("smtp-hostname", "a b", false),
        ("smarthost", "", true),
        ("smarthost", "[2001:db8::1]", true),
        ("smarthost", "mail.example:25", false),
        ("smarthost-port", "0", false),
        ("local-domains", "a.example, B.example", true),
        ("local-domains", "ü.example", false),
        ("retry-interval", "600,1200", true),
        ("retry-interval", "", false),
        ("retry-interval", "0", false),
        ("queue-directory", "spool", false),
        ("plugin-api-versions", "", true),
        ("plugin-api-versions", "201,-3", true),
        ("plugin-api-versions", "2.1", false),
        ("application-log", "", true),
        ("application-log", "stderr,/var/log/rohrpost.log", true),
        ("application-log", "rohrpost.log", false),
    ];
    for (name, value, good) in cases {
        let key = lookup(name).unwrap();
        assert_eq!(key.check(value).is_ok(), *good, "{name}: `{value}`: {:?}", key.check(value));
    }
}

#[test]
fn sizes_count_in_thousands_with_a_b_and_in_1024_without() {
    let cases = [
        ("100MB", 100_000_000),
        ("100M", 100 << 20),
        ("100mib", 100 << 20),
        ("1 GB", 1_000_000_000),
        ("1048512KiB", (1 << 30) - 65536),
        ("65536", 65536),
        ("65536B", 65536),
        ("64k", 65536),
    ];
    for (text, bytes) in cases {
        assert_eq!(load(&[("smtp-maxsize", text)]).smtp.message_bytes_max, bytes, "{text}");
    }
}

#[test]
fn ports_and_ranges_come_out_in_order() {
    assert_eq!(load(&[("smtp-port", "2500-2502,25,0")]).smtp.ports, [2500, 2501, 2502, 25, 0]);
}

#[test]
fn zero_means_no_limit_where_the_documentation_says_so() {
    let settings = load(&[
        ("smtp-connections-per-address", "0"),
        ("smarthost-messages", "0"),
        ("plugin-timeout", "0"),
        ("smtp-errors", "0"),
    ]);
    assert_eq!(settings.smtp.connections_per_address_max, None);
    assert_eq!(settings.delivery.smarthost_messages_max, None);
    assert_eq!(settings.plugin.hold_timeout, None);
    assert_eq!(settings.smtp.errors_max, None);
}

#[test]
fn a_smarthost_is_a_name_or_an_address() {
    let host = |text| load(&[("smarthost", text)]).delivery.smarthost.unwrap();
    assert_eq!(host("Mail.Example"), Host::Name("mail.example".into()));
    assert_eq!(host("192.0.2.1"), Host::Address("192.0.2.1".parse().unwrap()));
    assert_eq!(host("[2001:db8::1]"), Host::Address("2001:db8::1".parse().unwrap()));
}

#[test]
fn local_domains_are_compared_without_case() {
    let domains = load(&[("local-domains", "b.example; A.example,b.EXAMPLE")]).smtp.local_domains;
    assert_eq!(domains.iter().collect::<Vec<_>>(), ["a.example", "b.example"]);
    assert!(domains.contains("B.Example") && !domains.contains("example"));
}

#[test]
fn settings_that_cannot_work_together_are_errors() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("smtp-connections", "100000")], "file descriptors"),
        (&[("memory-limit", "50MB")], "could never be accepted"),
        (&[("plugin-directory", "/nonexistent/plugins")], "is not a directory"),
        (&[("queue-directory", "/nonexistent/spool/x")], "its parent is missing"),
        (&[("queue-directory", "/proc/self/status")], "is not a directory"),
        (&[("application-log", "/nonexistent/a/log")], "not a place for a file"),
        (&[("application-log", "/tmp")], "not a place for a file"),
        (&[("smtp-auth", "file:///nonexistent/users")], "the users cannot be read"),
        (&[("smtp-auth", "hardcoded://a:b,a:c")], "user `a` is named twice"),
    ];
    for (pairs, part) in cases {
        assert_contains(&complaints(&sources(pairs)).0, &[part]);
    }
    let long = format!("/tmp/{}", "x".repeat(100));
    assert_contains(&complaints(&sources(&[("queue-directory", &long)])).0, &["too long"]);
}

#[test]
fn what_is_said_of_a_bad_password_list_does_not_repeat_it() {
    for text in ["geheim", "hardcoded://geheim", "ldap://host/geheim", "file://geheim"] {
        let (errors, _) = complaints(&sources(&[("smtp-auth", text)]));
        assert_contains(&errors, &["smtp-auth", "allowed: `hardcoded://`"]);
        assert!(!errors.concat().contains("geheim"), "{errors:?}");
    }
    let settings = load(&[("smtp-auth", "hardcoded://tim:geheim")]);
    assert!(!format!("{settings:?}").contains("geheim"));
}

#[test]
fn settings_that_surprise_are_warnings() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("dns-timeout", "1")], "dns-interval is above"),
        (&[("smtp-hostname", "mail")], "not fully qualified"),
        (&[("smtp-validate-address", "loose")], "`strict` is used"),
        (&[("application-log", "syslog")], "not supported yet"),
        (&[("smtp-range", "")], "no client may connect"),
        (&[("smtp-relay-range", "all")], "open relay"),
        (&[("smtp-relay-range", "0.0.0.0/1;128.0.0.0/1")], "open relay"),
        (&[("smtp-connections", "10"), ("smtp-connections-in", "11")], "which holds"),
        (&[("smtp-connections-out", "10")], "smarthost-connections 50"),
        (&[("smtp-data-timeout", "10")], "ends a body first"),
        (&[("smtp-auth", "hardcoded://a:b")], "nobody can log in: there is no TLS"),
        (&[("www-port", "80")], "does not have"),
        (&[("lock", "/run/x")], "`queue-directory`"),
    ];
    for (pairs, part) in cases {
        let (errors, warnings) = complaints(&sources(pairs));
        assert!(errors.is_empty(), "{errors:?}");
        assert_contains(&warnings, &[part]);
    }
}

#[test]
fn a_good_configuration_is_silent() {
    let (errors, warnings) = complaints(&sources(&[("smarthost", "192.0.2.1")]));
    assert_eq!((errors, warnings), (vec![], vec![]));
}

#[test]
fn d_07_a_missing_plugin_directory_matters_only_if_it_was_asked_for() {
    assert!(complaints(&sources(&[])).0.is_empty());
    let default = lookup("plugin-directory").unwrap().default_text();
    if !Path::new(default).exists() {
        let (errors, _) = complaints(&sources(&[("plugin-directory", default)]));
        assert_contains(&errors, &["plugin-directory", "is not a directory"]);
    }
}

#[test]
fn the_listing_and_the_table_name_every_key() {
    let (listing, table) = (list(&machine()), markdown());
    for key in keys() {
        assert!(listing.contains(&format!("{}: ", key.name)));
        assert!(table.contains(&format!("| `{}` |", key.name)));
    }
    let widths: HashSet<_> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.matches('|').count())
        .collect();
    assert_eq!(widths, HashSet::from([6]));
}

#[test]
fn a_change_is_applied_or_waits_as_its_row_says() {
    let machine = machine();
    let old = load(&[]);
    // Every kind of value that may change while the server runs, and some that may not.
    let pairs = [
        ("log-level", "debug"),
        ("retry-interval", "1,2"),
        ("max-attempts", "3"),
        ("smtp-timeout", "10"),
        ("smtp-relay-range", "192.0.2.0/24"),
        ("local-domains", "example.org"),
        ("smtp-hostname", "other.example.org"),
        ("smtp-connections-in", "7"),
        ("smtp-port", "2525"),
        ("user", "mail"),
    ];
    let new = load(&pairs);
    let changes = old.with_changes(&new, &machine).unwrap();
    let (waiting, applied): (Vec<_>, Vec<_>) =
        pairs.iter().map(|(name, _)| *name).partition(|name| ["smtp-port", "user"].contains(name));
    let sorted = |mut names: Vec<&'static str>| {
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(changes.applied), sorted(applied));
    assert_eq!(sorted(changes.waiting), sorted(waiting));
    assert_eq!(changes.settings.logging.level, Level::Debug);
    assert_eq!(changes.settings.smtp.connections_in_max, Some(7));
    assert_eq!(changes.settings.smtp.ports, old.smtp.ports);
    let again = changes.settings.with_changes(&new, &machine).unwrap();
    assert_eq!((again.applied, again.waiting.len()), (vec![], 2));
}

#[test]
fn a_change_that_does_not_fit_what_waits_for_a_restart_is_refused() {
    let machine = machine();
    let old = load(&[("memory-limit", "64MiB"), ("smtp-maxsize", "32MiB")]);
    let new = load(&[("memory-limit", "1GiB"), ("smtp-maxsize", "512MiB")]);
    let report = old.with_changes(&new, &machine).unwrap_err();
    assert!(report.to_string().contains("smtp-maxsize"), "{report}");
}

/// The README may carry the table; if it does, it is this one.
#[test]
fn the_table_in_the_readme_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(path).unwrap_or_default();
    let begin = readme.split_once("<!-- settings: begin -->");
    if let Some((text, _)) = begin.and_then(|(_, rest)| rest.split_once("<!-- settings: end -->")) {
        assert_eq!(text.trim(), markdown().trim(), "run `rohrpost check --markdown`");
    }
}

/// Whatever is written in a file is answered with values or problems, never with a panic.
#[test]
fn random_text_never_panics() {
    let seed = std::env::var("ROHRPOST_SEED").ok().and_then(|text| text.parse().ok());
    let mut state: u64 = seed.unwrap_or(0x5eed);
    println!("ROHRPOST_SEED={state}");
    let mut roll = |sides: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    let pieces = [
        "0",
        "1",
        "25",
        "4294967296",
        "-",
        ",",
        ";",
        ":",
        "/",
        "[",
        "]",
        ".",
        "::",
        "%",
        "=",
        "#",
        " ",
        "\t",
        "MB",
        "ms",
        "all",
        "a",
        "ü",
        "\u{0}",
        "\u{feff}",
        "127.0.0.1",
        "2001:db8::",
        "stderr",
        "99999999999999999999",
    ];
    let names: Vec<_> = keys().collect();
    for _ in 0..20_000 {
        let text: String = (0..roll(8)).map(|_| pieces[roll(pieces.len())]).collect();
        let key = names[roll(names.len())];
        if let Err(reason) = key.check(&text) {
            assert!(!reason.is_empty());
        }
        let (mut found, mut report) = (Vec::new(), Report::default());
        read_lines(Path::new("f"), &text, &mut found, &mut report);
    }
}

#[test]
fn where_the_queue_is_is_known_whatever_else_is_wrong() {
    let located = |values: &[(&str, &str)]| Settings::queue_directory(&sources(values), &machine());
    let (place, wrong) = (("queue-directory", "/q"), ("smtp-port", "x"));
    assert_eq!(located(&[place]).unwrap(), Located { directory: "/q".into(), mistakes: 0 });
    let found = located(&[place, wrong, ("smtp-prot", "1")]).unwrap();
    assert_eq!((found.directory, found.mistakes), ("/q".into(), 2));
    assert!(located(&[("queue-directory", "q")]).is_err(), "that is where it is");
    let folder = Directory::new("located");
    let mut doubtful = sources(&[]);
    doubtful.arguments.values.clear();
    doubtful.main_file = Some(folder.file("config", "queue-directry: /q\n"));
    assert!(Settings::queue_directory(&doubtful, &machine()).is_err(), "it was meant");
    doubtful.arguments.values.push(("queue-directory".into(), "/q".into()));
    assert_eq!(Settings::queue_directory(&doubtful, &machine()).unwrap().mistakes, 1);
}
