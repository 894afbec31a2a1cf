//! Regular expressions for numbers, and what their groups are written into.

use regex::{Captures, Regex, RegexBuilder};

/// A test for a whole number.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// What a number is rewritten to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A group by its number.
    Group(usize),
}

/// Why a pattern or a rewriting cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than anybody needs.
    #[error("longer than {MAX_EXPRESSION_BYTES} bytes; make it shorter")]
    TooLong,
    /// Not a regular expression, or one that is too large when compiled.
    #[error("not a regular expression that can be used: {0}")]
    Expression(String),
    /// A `$` that means nothing.
    #[error("a $ must be followed by a group's number or {{name}}; write $$ for the character itself")]
    Dollar,
    /// There is no such group.
    #[error("there is no group {0:?} in the pattern")]
    NoGroup(String),
    /// A character that no number and no user has.
    #[error("{0:?} cannot be part of a number or user")]
    Character(char),
}

impl Pattern {
    /// From an expression, which need not have the anchors that are meant anyway.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(expression: &str) -> Result<Self, PatternError> {
        if expression.len() > MAX_EXPRESSION_BYTES {
            return Err(PatternError::TooLong);
        }
        // Alone first, so that an unbalanced bracket cannot close the group below.
        compiled(expression)?;
        compiled(&format!("^(?:{expression})$")).map(Self)
    }

    /// Whether the whole of `number` matches.
    #[must_use]
    pub fn matches(&self, number: &str) -> bool {
        self.0.is_match(number)
    }

    /// `number` rewritten; `None` if it does not match.
    #[must_use]
    pub fn rewritten(&self, number: &str, rewrite: &Rewrite) -> Option<String> {
        self.0.captures(number).map(|groups| rewrite.expand(&groups))
    }

    /// What numbers that match are rewritten to.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn rewrite(&self, template: &str) -> Result<Rewrite, PatternError> {
        if template.len() > MAX_EXPRESSION_BYTES {
            return Err(PatternError::TooLong);
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(character) = rest.chars().next() {
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
            if character != '$' {
                if !is_user_character(character) {
                    return Err(PatternError::Character(character));
                }
                text.push(character);
                continue;
            }
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(PatternError::Dollar)?,
                None => {
                    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                    rest.split_at_checked(digits).ok_or(PatternError::Dollar)?
                }
            };
            rest = after;
            if name.is_empty() {
                return Err(PatternError::Dollar);
            }
            let group = self.group(name).ok_or_else(|| PatternError::NoGroup(name.to_owned()))?;
            parts.extend((!text.is_empty()).then(|| Part::Text(std::mem::take(&mut text))));
            parts.push(Part::Group(group));
        }
        parts.extend((!text.is_empty()).then_some(Part::Text(text)));
        Ok(Rewrite(parts))
    }

    fn group(&self, name: &str) -> Option<usize> {
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse().ok().filter(|&number: &usize| number < self.0.captures_len());
        }
        self.0.capture_names().position(|group| group == Some(name))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Rewrite {
    fn expand(&self, groups: &Captures<'_>) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Group(number) => {
                groups.get(*number).map_or_else(String::new, |group| group.as_str().to_owned())
            }
        };
        self.0.iter().map(part).collect()
    }
}

/// Whether a number or user may be dialled: what may be in a SIP URI before the `@` without an escape.
#[must_use]
pub fn is_diallable(number: &str) -> bool {
    (1..=MAX_NUMBER_BYTES).contains(&number.len()) && number.chars().all(is_user_character)
}

/// A dialled number without what is only there for the eye (RFC 3966 section 5.1.1); a user stays as it is.
#[must_use]
pub fn normalized(number: &str) -> String {
    let number = number.trim();
    let is_visual = |character: char| matches!(character, ' ' | '-' | '.' | '(' | ')' | '/');
    let is_number = number.chars().any(|character| character.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || is_visual(c) || matches!(c, '+' | '*' | '#'));
    if is_number {
        number.chars().filter(|&character| !is_visual(character)).collect()
    } else {
        number.to_owned()
    }
}

/// RFC 3261 section 25.1: unreserved, user-unreserved without `;`, `?` and `/`, and `#`, which is escaped on the wire.
const fn is_user_character(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(
            character,
            '-' | '_' | '.' | '!' | '~' | '*' | '\'' | '(' | ')' | '&' | '=' | '+' | '$' | ',' | '#'
        )
}

fn compiled(expression: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(expression)
        .size_limit(COMPILED_BYTES)
        .dfa_size_limit(COMPILED_BYTES)
        .nest_limit(NESTING)
        .build()
        .map_err(|error| PatternError::Expression(last_line(&error.to_string())))
}

/// The message of the regex crate is a drawing of several lines that ends with what is wrong.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").chars().take(200).collect()
}

/// Longer expressions are mistakes.
const MAX_EXPRESSION_BYTES: usize = 512;
/// Compiled, for the program and for its cache.
const COMPILED_BYTES: usize = 1 << 18;
const NESTING: u32 = 32;
/// The longest number or user that is dialled.
const MAX_NUMBER_BYTES: usize = 128;
