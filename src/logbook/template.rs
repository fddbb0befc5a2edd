//! The form of a line: text with `{$variable}` and `{if $variable}…{else}…{/if}` in it.
//!
//! This is the part of SmartTPL that MailerQ's shipped formats use, with its names of variables: a `-` of
//! JSON is a `_`. What is not understood is refused at the start, never written as it stands.
//!
//! Diagnostics: [`TemplateError`] names the place and the word.

use super::entry::Field;

/// Octets of a form.
const TEMPLATE_BYTES_MAX: usize = 4096;
/// How deep `{if}` may stand in `{if}`.
const DEPTH_MAX: usize = 8;

/// Which log a form is for, and so which variables it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Attempts to deliver: `$email`, `$result`, `$attempt`, `$date`, `$time`.
    Sent,
    /// Mail that came in: `$json`, `$report`, `$date`, `$time`.
    Received,
}

impl Subject {
    /// MailerQ's shipped format.
    pub const fn shipped(self) -> &'static str {
        match self {
            Self::Sent => {
                "[{$date}] {$result.state}:{$result.result} {$attempt} \
                 <{if $email.envelope}{$email.envelope}{/if}> <{$email.recipient}> \
                 [{$result.from}] [{$result.to}] {$email.tags} {$result.code} {$result.status} \
                 {$result.description}"
            }
            Self::Received => {
                "[{$date}]{if $json.message_id} {$json.message_id} {/if}<{$json.envelope}> \
                 <{$json.recipient}> [{$json.connection.remote_ip}] [{$json.connection.local_ip}]"
            }
        }
    }
}

/// A form that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(super) pieces: Vec<Piece>,
}

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Box<str>),
    Value(Field),
    If { condition: Field, then: Vec<Piece>, or: Vec<Piece> },
}

/// Why a text is no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Longer than a form may be.
    #[error("is longer than 4096 octets")]
    TooLong,
    /// A line end or another control character.
    #[error("holds a control character")]
    Control,
    /// A `{` that is never closed.
    #[error("has a `{{` without a `}}`; a brace of its own is written {{ldelim}}")]
    Open,
    /// Something in braces that is no variable and no known word.
    #[error("has `{{{0}}}`, which is not understood; a brace of its own is written {{ldelim}}")]
    Word(String),
    /// A variable that this log does not have.
    #[error("names ${name}, which this log does not have; there are {known}")]
    Variable {
        /// The name.
        name: String,
        /// Those that there are.
        known: &'static str,
    },
    /// A modifier, as in `{$x|escape}`.
    #[error("has a modifier in `{{{0}}}`; there are none")]
    Modifier(String),
    /// `{else}` or `{/if}` without an `{if}`, or an `{if}` without its end.
    #[error("has an {{if}}, {{else}} or {{/if}} without the others")]
    Unpaired,
    /// Deeper than a form may be.
    #[error("has {{if}} in {{if}} more than 8 deep")]
    TooDeep,
}

impl Template {
    /// Reads a form.
    ///
    /// # Errors
    /// Whatever is not understood.
    pub fn parse(text: &str, subject: Subject) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(TemplateError::Control);
        }
        let mut parser = Parser { rest: text, subject };
        let (pieces, end) = parser.pieces(0)?;
        match end {
            End::Text => Ok(Self { pieces }),
            End::Else | End::If => Err(TemplateError::Unpaired),
        }
    }

    /// Whether one of its variables satisfies `is_so`.
    pub(super) fn uses(&self, is_so: impl Fn(&Field) -> bool + Copy) -> bool {
        fn any(pieces: &[Piece], is_so: impl Fn(&Field) -> bool + Copy) -> bool {
            pieces.iter().any(|piece| match piece {
                Piece::Text(_) => false,
                Piece::Value(field) => is_so(field),
                Piece::If { condition, then, or } => {
                    is_so(condition) || any(then, is_so) || any(or, is_so)
                }
            })
        }
        any(&self.pieces, is_so)
    }
}

/// What ended a run of pieces.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Text,
    Else,
    If,
}

struct Parser<'a> {
    rest: &'a str,
    subject: Subject,
}

impl Parser<'_> {
    fn pieces(&mut self, depth: usize) -> Result<(Vec<Piece>, End), TemplateError> {
        let mut pieces = Vec::new();
        loop {
            let Some((text, rest)) = self.rest.split_once('{') else {
                push_text(&mut pieces, self.rest);
                self.rest = "";
                return Ok((pieces, End::Text));
            };
            push_text(&mut pieces, text);
            let (word, rest) = rest.split_once('}').ok_or(TemplateError::Open)?;
            self.rest = rest;
            match word.trim() {
                "ldelim" => push_text(&mut pieces, "{"),
                "rdelim" => push_text(&mut pieces, "}"),
                "else" => return Ok((pieces, End::Else)),
                "/if" => return Ok((pieces, End::If)),
                word if word.starts_with('$') => pieces.push(Piece::Value(self.field(word)?)),
                word => {
                    let condition = word.strip_prefix("if ").map(str::trim_start);
                    let condition = condition.filter(|condition| condition.starts_with('$'));
                    let condition = condition.ok_or_else(|| TemplateError::Word(word.into()))?;
                    pieces.push(self.branch(condition, depth + 1)?);
                }
            }
        }
    }

    fn branch(&mut self, condition: &str, depth: usize) -> Result<Piece, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::TooDeep);
        }
        let condition = self.field(condition)?;
        let (then, end) = self.pieces(depth)?;
        let (or, end) = match end {
            End::Else => self.pieces(depth)?,
            End::If | End::Text => (Vec::new(), end),
        };
        match end {
            End::If => Ok(Piece::If { condition, then, or }),
            End::Else | End::Text => Err(TemplateError::Unpaired),
        }
    }

    fn field(&self, word: &str) -> Result<Field, TemplateError> {
        let name = &word[1..];
        if name.contains('|') {
            return Err(TemplateError::Modifier(word.into()));
        }
        let is_name = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !name.split('.').all(is_name) {
            return Err(TemplateError::Word(word.into()));
        }
        let known = Field::known(self.subject);
        Field::named(self.subject, name)
            .ok_or_else(|| TemplateError::Variable { name: name.into(), known })
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
}
