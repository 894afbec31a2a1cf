//! The raw flag string of `rtpp-flags`, which a proxy passes on unparsed.
//!
//! Tokens are split at blanks. `name` is a flag, `key=value` a key, `key=[a b]` a list and `key=[a=x b=[y z]]` a
//! dictionary; brackets nest and may touch their tokens.

use super::super::value::{Dictionary, MAX_NESTING, Value};

/// One token of the string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word by itself.
    Flag(String),
    /// `key=value`.
    Key(String, Value),
}

/// Reads a flag string. What makes no sense is taken as far as it does.
pub(super) fn parse(text: &str) -> Vec<Token> {
    let mut rest = text;
    let mut tokens = Vec::new();
    while let Some(token) = token(&mut rest, 0) {
        tokens.push(token);
    }
    tokens
}

/// The next token, or `None` at the end or at a closing bracket, which is left there.
fn token(rest: &mut &str, depth: usize) -> Option<Token> {
    *rest = rest.trim_start();
    if depth == 0 {
        // Nothing was opened.
        *rest = rest.trim_start_matches([']', ' ', '\t', '\r', '\n']);
    }
    if rest.is_empty() || rest.starts_with(']') {
        return None;
    }
    let end = rest.find([' ', '\t', '\r', '\n', '=', ']', '[']).unwrap_or(rest.len());
    let (word, tail) = rest.split_at(end);
    if let Some(value) = tail.strip_prefix('=') {
        *rest = value;
        let value = value_of(rest, depth);
        return Some(Token::Key(word.to_owned(), value));
    }
    // A bracket that follows no `=` is skipped, so that the string always gets shorter.
    *rest = if word.is_empty() { tail.get(1..).unwrap_or_default() } else { tail };
    Some(Token::Flag(word.to_owned()))
}

fn value_of(rest: &mut &str, depth: usize) -> Value {
    if depth < MAX_NESTING
        && let Some(inner) = rest.strip_prefix('[')
    {
        *rest = inner;
        let mut members = Vec::new();
        while let Some(member) = token(rest, depth + 1) {
            members.push(member);
        }
        *rest = rest.strip_prefix(']').unwrap_or(rest);
        return bracket(members);
    }
    // At the top a closing bracket belongs to the value.
    let ends: &[char] = if depth == 0 { &[' ', '\t', '\r', '\n'] } else { &[' ', '\t', '\r', '\n', ']'] };
    let end = rest.find(ends).unwrap_or(rest.len());
    let (value, tail) = rest.split_at(end);
    *rest = tail;
    value.into()
}

/// The first member decides whether it is a dictionary.
fn bracket(members: Vec<Token>) -> Value {
    if matches!(members.first(), Some(Token::Key(..))) {
        let mut dictionary = Dictionary::default();
        for member in members {
            match member {
                Token::Key(key, value) => dictionary.push(key, value),
                Token::Flag(flag) => dictionary.push(flag, ""),
            }
        }
        return dictionary.into();
    }
    let texts = members.into_iter().map(|member| match member {
        Token::Flag(flag) => flag.into(),
        Token::Key(key, value) => format!("{key}={}", value.text().unwrap_or_default()).into(),
    });
    Value::List(texts.filter(|text: &Value| text.text() != Some("")).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flag(text: &str) -> Token {
        Token::Flag(text.to_owned())
    }

    fn key(key: &str, value: impl Into<Value>) -> Token {
        Token::Key(key.to_owned(), value.into())
    }

    #[test]
    fn brackets_are_lists_or_dictionaries() {
        let text = "replace-origin codec=[strip=[all] offer=[PCMA telephone-event]] OSRTP=[accept] \
                    direction=priv direction=pub RTP/SAVP x=[ a b ]";
        let list = |words: &[&str]| Value::List(words.iter().map(|&word| word.into()).collect());
        let codec = Dictionary::default()
            .with("strip", list(&["all"]))
            .with("offer", list(&["PCMA", "telephone-event"]));
        let expected = [
            flag("replace-origin"),
            key("codec", codec),
            key("OSRTP", list(&["accept"])),
            key("direction", "priv"),
            key("direction", "pub"),
            flag("RTP/SAVP"),
            key("x", list(&["a", "b"])),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn values_may_hold_what_ends_no_token() {
        assert_eq!(parse("a=b=c d=[e"), [key("a", "b=c"), key("d", Value::List(vec!["e".into()]))]);
        assert_eq!(parse("  "), []);
        assert_eq!(parse("] ]x"), [flag("x")]);
    }

    proptest! {
        #[test]
        fn any_string_ends(text in "[a-c=\\[\\] ]{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn deep_brackets_end(depth in 0usize..5000) {
            let _ = parse(&"a=[".repeat(depth));
        }
    }
}
