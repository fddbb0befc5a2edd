//! The table of the README that says which foreign programs were tried, in which version and by which
//! test: rows here, versions as fetched.
//!
//! `ROHRPOST_BLESS=1` writes it anew. Versions may differ from machine to machine, so only the rest is
//! compared. **Diagnostics**: a row that is missing, a test that is not there, a fetched program that no
//! row names.

use std::collections::BTreeMap;

use crate::{
    peers::versions,
    tidy::{files, read},
};

struct Row {
    program: &'static str,
    /// As `tests/tools/fetch.sh` stamps it.
    stamp: &'static str,
    tried: &'static str,
    /// `MODULE::TEST`, or `MODULE` for all of it, below `tests/`.
    shown_by: &'static [&'static str],
}

const fn row(
    program: &'static str,
    stamp: &'static str,
    tried: &'static str,
    shown_by: &'static [&'static str],
) -> Row {
    Row { program, stamp, tried, shown_by }
}

const ROWS: &[Row] = &[
    row(
        "Python's smtplib",
        "python",
        "sends in clear; over TLS with a login",
        &["interop_in::smtplib_is_served", "interop_in::smtplib_is_served_over_tls_and_a_login"],
    ),
    row(
        "aiosmtplib",
        "aiosmtplib",
        "sends in clear; over TLS with a login",
        &[
            "interop_in::aiosmtplib_is_served",
            "interop_in::aiosmtplib_is_served_over_tls_and_a_login",
        ],
    ),
    row(
        "nodemailer",
        "nodemailer",
        "sends in clear; over TLS with a login",
        &[
            "interop_in::nodemailer_is_served",
            "interop_in::nodemailer_is_served_over_tls_and_a_login",
        ],
    ),
    row(
        "msmtp",
        "msmtp",
        "sends in clear; over TLS with a login",
        &["interop_in::msmtp_is_served", "interop_in::msmtp_is_served_over_tls_and_a_login"],
    ),
    row(
        "s-nail",
        "s-nail",
        "sends in clear; over TLS with a login",
        &["interop_in::s_nail_is_served", "interop_in::s_nail_is_served_over_tls_and_a_login"],
    ),
    row(
        "curl",
        "curl",
        "sends in clear; over TLS with a login",
        &["interop_in::curl_is_served", "interop_in::curl_is_served_over_tls_and_a_login"],
    ),
    row(
        "swaks",
        "swaks",
        "sends in clear; with a login",
        &["interop_in::swaks_is_served", "interop_in::swaks_is_served_with_a_login"],
    ),
    row(
        "Postfix",
        "postfix",
        "sends in clear; over TLS. Receives by DATA and BDAT; over TLS; notices passed on",
        &[
            "interop_in::postfix_is_served",
            "interop_in::postfix_is_served_over_tls",
            "interop_out::postfix_keeps_every_octet",
            "interop_out::postfix_keeps_every_octet_without_chunks",
            "interop_out::postfix_keeps_every_octet_over_tls",
            "interop_out::wishes_for_notices_are_passed_on",
        ],
    ),
    row(
        "Exim",
        "exim",
        "sends by BDAT in clear; over TLS with a login. Receives by DATA and BDAT; over TLS with a login; \
         notices passed on",
        &[
            "interop_in::exim_is_served",
            "interop_in::exim_is_served_over_tls_and_a_login",
            "interop_out::exim_keeps_every_octet",
            "interop_out::exim_keeps_every_octet_without_chunks",
            "interop_out::exim_keeps_every_octet_over_tls_and_a_login",
            "interop_out::wishes_for_notices_are_passed_on",
        ],
    ),
    row(
        "OpenSMTPD",
        "opensmtpd",
        "receives in clear; after TLS that it offers and cannot do (Debian 12); notices passed on",
        &[
            "interop_out::opensmtpd_keeps_every_octet",
            "interop_out::opensmtpd_keeps_every_octet_though_its_tls_may_fail",
            "interop_out::wishes_for_notices_are_passed_on",
        ],
    ),
    row(
        "Haraka",
        "haraka",
        "receives in clear; over TLS with a login",
        &[
            "interop_out::haraka_keeps_every_octet",
            "interop_out::haraka_keeps_every_octet_over_tls_and_a_login",
        ],
    ),
    row(
        "aiosmtpd",
        "aiosmtpd",
        "receives in clear; over TLS",
        &[
            "interop_out::aiosmtpd_keeps_every_octet",
            "interop_out::aiosmtpd_keeps_every_octet_over_tls",
        ],
    ),
    row(
        "Postfix' smtp-source, smtp-sink, posttls-finger",
        "postfix",
        "load, faults of a next hop, a look at our certificate",
        &["interop", "tls::foreign::postfix_finds_our_certificate_good"],
    ),
    row(
        "OpenSSL's s_client",
        "openssl",
        "versions of TLS, resumption",
        &["tls::foreign::openssl_speaks_tls_1_2_and_1_3_and_nothing_older"],
    ),
    row(
        "sslscan",
        "sslscan",
        "finds nothing old or weak",
        &["tls::foreign::sslscan_finds_nothing_old_or_weak"],
    ),
];

/// What is fetched and speaks no SMTP.
const NO_PEERS: &[&str] = &["strace", "node", "libraries"];

const BEGIN: &str = "<!-- tried: begin -->\n";
const END: &str = "<!-- tried: end -->\n";

fn table(versions: &BTreeMap<String, String>) -> String {
    let mut table = "\n| program | version | tried | shown by |\n|---|---|---|---|\n".to_owned();
    for row in ROWS {
        let version = versions.get(row.stamp).map_or("", String::as_str);
        let version = version.trim_start_matches("system_");
        let tests: Vec<String> = row.shown_by.iter().map(|test| format!("`{test}`")).collect();
        let (program, tried, tests) = (row.program, row.tried, tests.join(", "));
        table += &format!("| {program} | {version} | {tried} | {tests} |\n");
    }
    table + "\n"
}

/// The table of a README, and where it stands.
fn place(readme: &str) -> Option<std::ops::Range<usize>> {
    let begin = readme.find(BEGIN)? + BEGIN.len();
    let end = begin + readme[begin..].find(END)?;
    Some(begin..end)
}

/// A table without its versions.
fn without_versions(table: &str) -> Vec<String> {
    let cells = |line: &str| line.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    let blank = |line: &str| {
        let mut cells = cells(line);
        if let Some(version) = cells.get_mut(2) {
            version.clear();
        }
        cells.join("|")
    };
    table.lines().filter(|line| !line.is_empty() && !line.contains("---")).map(blank).collect()
}

#[test]
fn the_readme_says_what_was_tried() {
    let readme = read("README.md").expect("there is a README");
    let place = place(&readme).expect("the README has a table between its markers");
    let made = table(&versions());
    if std::env::var_os("ROHRPOST_BLESS").is_some() {
        let blessed = [&readme[..place.start], &made, &readme[place.end..]].concat();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        std::fs::write(path, blessed).expect("the README can be written");
        return;
    }
    assert_eq!(
        without_versions(&readme[place]),
        without_versions(&made),
        "ROHRPOST_BLESS=1 cargo test --test main matrix"
    );
}

#[test]
fn every_program_has_its_row_and_every_row_its_test() {
    let rows = |stamp: &String| ROWS.iter().any(|row| row.stamp == stamp);
    let strangers: Vec<String> =
        versions().into_keys().filter(|s| !NO_PEERS.contains(&s.as_str()) && !rows(s)).collect();
    assert_eq!(strangers, [""; 0], "fetched, and in no row");
    let sources = files("tests", "rs");
    for test in ROWS.iter().flat_map(|row| row.shown_by) {
        let (module, name) = match test.rsplit_once("::") {
            Some((module, name)) => (module, Some(name)),
            None => (*test, None),
        };
        let path = format!("tests/{}.rs", module.replace("::", "/"));
        assert!(sources.contains(&path), "{test}: no {path}");
        let text = read(&path).unwrap_or_default();
        let defined = |name| {
            text.contains(&format!("fn {name}()")) || text.contains(&format!("    {name}: "))
        };
        assert!(name.is_none_or(defined), "{test} is not there");
    }
}
