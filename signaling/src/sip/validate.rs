//! What a UAS checks before it looks at what is asked (RFC 3261 8.2).

use super::message::{Content, Message, SIP_VERSION, StartLine, Uri, decimal, session_description};

/// The methods we take.
pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, NOTIFY";
/// The extensions we know.
pub(super) const SUPPORTED: &str = "100rel, timer";
/// The bodies we take.
pub(super) const ACCEPT: &str = "application/sdp, application/dtmf-relay, application/dtmf";

/// The error that a request has to be answered with, if any: status, reason phrase and more headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason, headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The headers that identify a message (RFC 3261 8.1.1), and the version.
pub(super) fn check_mandatory(request: &Message) -> Result<(), Refusal> {
    let bad = |reason| Err(Refusal::new(400, reason));
    for name in ["From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Type"] {
        if request.values(name).count() > 1 {
            return bad("A Header Field That May Appear Once Is Repeated");
        }
    }
    if request.top_via().is_none_or(|via| via.branch().is_none()) {
        return bad("Missing Or Malformed Via");
    }
    if request.call_id().is_empty() {
        return bad("Missing Call-ID");
    }
    if request.from().is_none_or(|from| from.tag().is_none()) {
        return bad("Missing Or Malformed From, Or No Tag");
    }
    if request.to().is_none() {
        return bad("Missing Or Malformed To");
    }
    let StartLine::Request { method, version, .. } = &request.start else { return bad("") };
    if request.cseq().is_none_or(|(_, cseq_method)| cseq_method != method) {
        return bad("Missing Or Malformed CSeq");
    }
    if request.header("Max-Forwards").is_some_and(|hops| decimal(hops).is_none_or(|hops| hops > 255)) {
        return bad("Malformed Max-Forwards");
    }
    if version != SIP_VERSION {
        return Err(Refusal::new(505, ""));
    }
    Ok(())
}

/// Method, URI, extensions and body, in the order of RFC 3261 8.2.1 to 8.2.3. For everything but ACK and
/// CANCEL. `allow` has the methods that are taken.
pub(super) fn check_request(request: &Message, allow: &str) -> Result<(), Refusal> {
    match request.method() {
        "REGISTER" | "MESSAGE" if allow.split(", ").any(|method| method == request.method()) => {}
        "INVITE" | "BYE" | "OPTIONS" | "PRACK" | "UPDATE" | "INFO" | "ACK" | "CANCEL" => {}
        "REGISTER" | "MESSAGE" | "REFER" | "PUBLISH" => {
            return Err(Refusal::new(405, "").with("Allow", allow));
        }
        // Of our REFER; the call knows whether it is.
        "NOTIFY" if request.to_tag().is_some() => {}
        // RFC 6665 4.1.3: there is no event package that we know.
        "SUBSCRIBE" | "NOTIFY" => return Err(Refusal::new(489, "").with("Allow", allow)),
        _ => return Err(Refusal::new(501, "").with("Allow", allow)),
    }
    match Uri::parse(request.uri()) {
        None => return Err(Refusal::new(400, "Malformed Request-URI")),
        Some(uri) if uri.scheme != "sip" && uri.scheme != "sips" => return Err(Refusal::new(416, "")),
        Some(_) => {}
    }
    let known = |tag: &str| {
        let path = request.method() == "REGISTER" && tag.eq_ignore_ascii_case("path");
        path || SUPPORTED.split(", ").any(|known| known.eq_ignore_ascii_case(tag))
    };
    let unknown: Vec<_> = request.list("Require").filter(|tag| !known(tag)).collect();
    if !unknown.is_empty() {
        return Err(Refusal::new(420, "").with("Unsupported", unknown.join(", ")));
    }
    if !matches!(request.method(), "INVITE" | "UPDATE" | "PRACK") {
        return Ok(());
    }
    match session_description(request) {
        Content::None | Content::Sdp(_) => {}
        Content::Unsupported => {
            return Err(Refusal::new(415, "").with("Accept", ACCEPT).with("Accept-Encoding", "identity"));
        }
        Content::Broken => return Err(Refusal::new(400, "Malformed Body")),
    }
    let sdp = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["application/sdp", "application/*", "*/*"].iter().any(|known| range.eq_ignore_ascii_case(known))
    };
    if request.header("Accept").is_some() && !request.list("Accept").any(sdp) {
        return Err(Refusal::new(406, "").with("Accept", ACCEPT));
    }
    Ok(())
}
