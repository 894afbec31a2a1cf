//! Values joined by commas and parameters joined by semicolons (RFC 3261 7.3.1, 25.1).

/// Parameters in order; names as written, values unquoted.
pub(crate) type Params = Vec<(String, Option<String>)>;

/// Splits at `separator` outside of quotes and angle brackets; the parts are trimmed.
pub(crate) fn split_quoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped, mut angle) = (false, false, false);
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '<' if !quoted => angle = true,
                '>' if !quoted => angle = false,
                c if c == separator && !quoted && !angle => {
                    rest = text.get(at + c.len_utf8()..);
                    return text.get(..at).map(str::trim);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text.trim())
    })
}

pub(crate) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    split_quoted(text, ',')
}

/// Parses `a=b;c;d="e"`; `None` when a quote is left open or a name is missing.
pub(crate) fn parse_params(text: &str) -> Option<Params> {
    if text.matches('"').count() == 1 {
        return None;
    }
    let mut params = Params::new();
    for part in split_quoted(text, ';').filter(|part| !part.is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquote(value.trim())?)),
            None => (part, None),
        };
        if name.is_empty() {
            return None;
        }
        params.push((name.to_owned(), value));
    }
    Some(params)
}

/// The content of a quoted string, or the text itself; `None` when the closing quote is missing.
pub(crate) fn unquote(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '"' => return chars.as_str().trim().is_empty().then_some(out),
            c => out.push(c),
        }
    }
    None
}
