//! The manual page and the completions, made from the arguments and the tables as they are.
//!
//! Must never: state a default, a setting or a field a second time.
//!
//! **Diagnostics**: none.

use clap_complete::Shell;
use clap_mangen::roff::{Inline, Roff, bold, italic, line_break, roman};

use crate::{cli, settings, status};

/// The manual page `rohrpost(1)`, for `man -l`.
pub fn page() -> Vec<u8> {
    let mut page = Roff::new();
    let version = concat!("rohrpost ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["ROHRPOST", "1", "", version, "Rohrpost"]);
    heading(&mut page, "NAME");
    page.text([roman("rohrpost - an open mail transfer runtime")]);
    heading(&mut page, "SYNOPSIS");
    page.text([bold("rohrpost"), roman(" "), italic("COMMAND"), roman(" [options]")]);
    heading(&mut page, "DESCRIPTION");
    prose(&mut page, DESCRIPTION);
    heading(&mut page, "COMMANDS");
    cli::program().get_subcommands().for_each(|command| describe(&mut page, "", command));
    heading(&mut page, "SETTINGS");
    prose(&mut page, SETTINGS);
    describe_settings(&mut page);
    for (title, text) in SECTIONS {
        heading(&mut page, title);
        list_or_prose(&mut page, text);
    }
    heading(&mut page, "STATUS");
    prose(&mut page, "The fields of what rohrpost status prints:");
    for (name, meaning) in status::fields() {
        item(&mut page, [bold(name)], meaning);
    }
    heading(&mut page, "SEE ALSO");
    prose(&mut page, "/usr/share/doc/rohrpost/README.md, /usr/include/mailerq.h, systemctl(1)");
    page.render().into_bytes()
}

/// The script that lets a shell complete our words.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::program(), "rohrpost", &mut script);
    script
}

const DESCRIPTION: &str = "Rohrpost receives mail over SMTP, keeps it in a durable queue, delivers it \
over SMTP, and asks plugins (C shared objects in MailerQ's interface) at every step. A message is \
answered 250 after it was written and synced, and not before.";

const SETTINGS: &str = "Settings are lines of the form key: value in /etc/rohrpost/config.txt, then in \
the file of --config-file, then environment variables such as ROHRPOST_SMTP_PORT, then options such \
as --smtp-port=25; the last one that sets a key holds. Those marked reload take effect with rohrpost \
reload, the others with a restart.";

/// What an operator looks up, one line an entry where a tab divides it from its meaning.
const SECTIONS: &[(&str, &str)] = &[
    (
        "SIGNALS",
        "SIGTERM, SIGINT\tClose the ports, finish what is under way within shutdown-timeout, end. \
         The second one ends the server at once, which costs no mail that was answered 250.\n\
         SIGHUP\tOpen the log files again.",
    ),
    (
        "EXIT STATUS",
        "0\tEnded in order.\n\
         1\tqueue show: there is no such mail. load: not every message was accepted.\n\
         64\tWrong usage.\n\
         70\tA bug: a worker panicked, and the others drained.\n\
         75\tTry again: the queue is in use, could not be opened, or did not come to rest in time.\n\
         78\tThe settings are to be mended, or a port, a plugin or the user cannot be used.",
    ),
    (
        "FILES",
        "/etc/rohrpost/config.txt\tSettings.\n\
         /var/spool/rohrpost\tThe queue (queue-directory): segments of the log (.log), the lock with \
         the process id of the server, and the control socket.\n\
         /usr/lib/rohrpost/plugins\tPlugins (plugin-directory), loaded in the order of their names.",
    ),
    (
        "ENVIRONMENT",
        "ROHRPOST_...\tSettings: ROHRPOST_LOG_LEVEL is log-level.\n\
         NOTIFY_SOCKET, WATCHDOG_USEC\tWhere a service manager is told that the server is ready, \
         reloading, stopping and alive (sd_notify(3)).",
    ),
];

fn heading(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

fn prose(page: &mut Roff, text: &str) {
    page.text([roman(text)]);
}

fn item(page: &mut Roff, name: impl Into<Vec<Inline>>, text: &str) {
    page.control("TP", []);
    page.text(name);
    page.text([roman(text.replace('`', ""))]);
}

fn list_or_prose(page: &mut Roff, text: &str) {
    for line in text.lines() {
        match line.split_once('\t') {
            Some((name, meaning)) => item(page, [bold(name)], meaning),
            None => prose(page, line),
        }
    }
}

/// One subcommand with its own options, and those below it. Settings have a section of their own.
fn describe(page: &mut Roff, parent: &str, command: &clap::Command) {
    let name = format!("{parent}{}", command.get_name());
    let own = |argument: &&clap::Arg| {
        argument.get_help_heading() != Some("Settings") && !argument.is_hide_set()
    };
    let mut line = vec![bold(&name)];
    for argument in command.get_positionals() {
        line.extend([roman(" "), italic(argument.get_id().as_str().to_uppercase())]);
    }
    page.control("TP", []);
    page.text(line);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = vec![roman(format!("{about}."))];
    for argument in command.get_arguments().filter(own).filter(|own| !own.is_positional()) {
        let Some(long) = argument.get_long() else { continue };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.extend([line_break(), bold(format!("--{long}"))]);
        let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
        if let Some([value, ..]) = value {
            text.extend([roman("="), italic(value.as_str())]);
        }
        text.push(roman(format!(": {help}.")));
    }
    page.text(text);
    let parent = format!("{name} ");
    command.get_subcommands().for_each(|below| describe(page, &parent, below));
}

fn describe_settings(page: &mut Roff) {
    let mut section = "";
    for key in settings::keys() {
        if key.section != section {
            section = key.section;
            page.control("SS", [section]);
        }
        let default = match key.default_text() {
            "" => "empty",
            text => text,
        };
        let text = format!(
            "{} Default: {default}. Allowed: {}. Change: {}.",
            key.meaning(),
            key.allowed(),
            key.change.name(),
        );
        item(page, [bold(key.name)], &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_command_setting_and_field() {
        let page = String::from_utf8(page()).unwrap().replace('\\', "");
        for command in cli::program().get_subcommands() {
            assert!(page.contains(&format!("fB{}fR", command.get_name())), "{command}");
        }
        for key in settings::keys() {
            assert!(page.contains(&format!("fB{}fR", key.name)), "{} is missing", key.name);
        }
        assert!(status::fields().all(|(name, _)| page.contains(name)));
        assert!(page.contains("--timeout") && !page.contains("rabbitmq"));
    }

    #[test]
    fn every_shell_gets_a_script_that_names_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(["drain", "reload", "queue"].iter().all(|word| script.contains(word)));
        }
    }
}
