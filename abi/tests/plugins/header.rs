//! The header stands alone in every language it promises, and the host exports what it declares.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;

use crate::support::{Folder, include, transcript};

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

/// Names that start with `prefix` in front of a parenthesis.
fn declared(prefix: &str) -> BTreeSet<String> {
    let header = fs::read_to_string(include().join("mailerq.h")).expect("the header is there");
    let header: String = header.split("/*").map(|s| s.split("*/").last().unwrap_or("")).collect();
    let names = header.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(');
    let names = names.filter_map(|name| name.split_once('(').map(|(name, _)| name));
    names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

#[test]
fn compiles_by_itself_as_c99_and_newer() {
    compiles("gcc", "c", &["c99", "c11", "c17"]);
}

#[test]
fn compiles_by_itself_as_cpp11_and_newer() {
    compiles("g++", "cpp", &["c++11", "c++17"]);
}

fn compiles(compiler: &str, extension: &str, standards: &[&str]) {
    let folder = Folder::new();
    let source = "#include <mailerq.h>\n#include <mailerq.h>\n\
                  MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
                  #if MQ_API_VERSION < 400\n\
                  MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *c, MQ_SmtpConnection *s)\n\
                  { MQ_Continue(c); return MQ_SmtpSecure(s); }\n\
                  #else\n\
                  MQ_EXPORT void mq_context_initialize(MQ_Context *c) { MQ_setContextData(c, c); }\n\
                  MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *c, MQ_Connection *s, MQ_Address *a)\n\
                  { (void)c; MQ_continue(s); MQ_setLocal(a, true); return MQ_email(a) != 0; }\n\
                  #endif\n";
    let file = folder.file(&format!("alone.{extension}"), source);
    for (standard, version) in standards
        .iter()
        .flat_map(|standard| ["201", "400", "401", "500", "506"].map(|version| (standard, version)))
    {
        let mut command = Command::new(compiler);
        command.arg(format!("-std={standard}")).arg(format!("-DMQ_API_VERSION={version}"));
        command.args(STRICT).arg("-I").arg(include());
        let output = command.args(["-c", "-o", "/dev/null"]).arg(&file).output();
        let output = output.expect("a compiler runs");
        assert!(output.status.success(), "{standard}, {version}: {}", transcript(&output));
    }
}

#[test]
fn a_version_that_the_header_does_not_know_is_refused_by_the_compiler() {
    let folder = Folder::new();
    let file = folder.file("odd.c", "#include <mailerq.h>\n");
    let mut command = Command::new("gcc");
    command.args(["-DMQ_API_VERSION=300", "-I"]).arg(include()).args(["-c", "-o", "/dev/null"]);
    let output = transcript(&command.arg(&file).output().expect("a compiler runs"));
    assert!(output.contains("MQ_API_VERSION must be 201, 400, 401, 500 or 506"), "{output}");
}

/// D-0B: a linker drops functions that nothing in Rust calls, unless it is told not to.
#[test]
fn d_0b_every_declared_function_is_exported_from_this_binary() {
    let binary = env::current_exe().expect("a test knows its binary");
    let output = Command::new("nm").arg("-D").arg("--defined-only").arg(binary).output();
    let output = String::from_utf8(output.expect("nm runs").stdout).expect("names are ASCII");
    let exported: BTreeSet<String> = output
        .lines()
        .filter_map(|line| line.rsplit(' ').next())
        .filter(|name| name.starts_with("MQ_") || name.starts_with("MQX_"))
        .map(str::to_owned)
        .collect();
    let documented = exported.iter().filter(|name| name.starts_with("MQ_")).count();
    assert_eq!(documented, 53, "25 of generation G1, 29 of G3, and MQ_ev is in both");
    assert_eq!(exported, &declared("MQ_") | &declared("MQX_"));
}

#[test]
fn the_header_declares_the_hooks_that_are_called() {
    let called = rohrpost_abi::Hook::ALL.iter().map(|hook| hook.name().to_owned());
    assert_eq!(&declared("mq_") | &declared("mqx_"), called.collect());
}

#[test]
fn the_header_and_the_host_agree_on_numbers() {
    let header = fs::read_to_string(include().join("mailerq.h")).expect("the header is there");
    let value = |name: &str| -> i32 {
        let lines = header.lines().filter_map(|line| line.strip_prefix("#define "));
        let mut words = lines.map(|line| line.split_whitespace());
        let found = words.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
        found.flatten().and_then(|value| value.parse().ok()).expect("a defined number")
    };
    assert!(header.contains("#  define MQ_API_VERSION 506\n"));
    assert_eq!(rohrpost_abi::VERSION_LATEST, 506);
    assert_eq!(value("MQX_VERSION"), rohrpost_abi::export::EXTENSIONS_VERSION);
    assert_eq!(value("MQ_READ"), i32::from(rohrpost_abi::READ));
    assert_eq!(value("MQ_WRITE"), i32::from(rohrpost_abi::WRITE));
    assert_eq!([value("MQ_CRIT"), value("MQ_WARN"), value("MQ_INFO")], [1, 2, 3]);
}
