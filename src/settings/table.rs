//! The table of settings for readers: as Markdown, and as a listing with values.
//!
//! Owns the layout. Never states a fact of its own: all of them come from the rows.
//!
//! Diagnostics: none.

use std::fmt::Write as _;

use super::key::{Key, keys};
use super::machine::Machine;

/// All settings as Markdown tables, one a section.
pub fn markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in keys() {
        if key.section != section {
            section = key.section;
            push(&mut text, format_args!("\n### {section}\n\n"));
            push(&mut text, format_args!("| Key | Default | Allowed | Change | Meaning |\n"));
            push(&mut text, format_args!("|---|---|---|---|---|\n"));
        }
        push(
            &mut text,
            format_args!(
                "| `{}` | {} | {} | {} | {} |\n",
                key.name,
                default_cell(key),
                key.allowed(),
                key.change.name(),
                key.meaning()
            ),
        );
    }
    text
}

/// All settings for a terminal: name, default on this machine, what is allowed, meaning.
pub fn list(machine: &Machine) -> String {
    let mut text = String::new();
    for key in keys() {
        let default = key.default_on(machine);
        let default = if default.is_empty() { "(empty)" } else { &default };
        push(&mut text, format_args!("{}: {default}\n", key.name));
        push(&mut text, format_args!("    {}\n", key.meaning()));
        push(&mut text, format_args!("    allowed: {}\n", key.allowed()));
        push(&mut text, format_args!("    takes effect: with a {}\n", key.change.name()));
        if !key.aliases.is_empty() {
            push(&mut text, format_args!("    also: {}\n", key.aliases.join(", ")));
        }
    }
    text
}

fn default_cell(key: &Key) -> String {
    match key.default_text() {
        "" => "(empty)".into(),
        text if key.is_derived() => text.into(),
        text => format!("`{text}`"),
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("writing to a string cannot fail");
}
