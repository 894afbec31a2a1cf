//! Dialogs (RFC 3261 12): who talks to whom, by which way, and in which order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::message::{Message, NameAddr, Uri};

/// What a dialog is known by, seen from here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DialogId {
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) remote_tag: String,
}

impl DialogId {
    /// The dialog that a received request claims to be in; `None` without a To tag.
    pub(super) fn of_request(request: &Message) -> Option<Self> {
        let (local_tag, remote_tag) = (request.to_tag()?, request.sender_tag().unwrap_or_default());
        Some(Self { call_id: request.call_id().to_owned(), local_tag, remote_tag })
    }

    /// The dialog that a received response belongs to.
    pub(super) fn of_response(response: &Message) -> Option<Self> {
        let (local_tag, remote_tag) = (response.sender_tag()?, response.to_tag()?);
        Some(Self { call_id: response.call_id().to_owned(), local_tag, remote_tag })
    }
}

/// A dialog, begun by a peer's INVITE or by ours.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    pub(super) id: DialogId,
    /// The From of our requests and the To of the peer's, with tags.
    local: String,
    remote: String,
    /// Route values in the order in which our requests list them.
    route_set: Vec<String>,
    remote_target: String,
    /// Shared with requests that are on their way: one that has to be sent again, with an answer to a challenge, takes
    /// the next number.
    local_cseq: Arc<AtomicU32>,
    remote_cseq: Option<u32>,
}

impl Dialog {
    /// RFC 3261 12.1.1. `None` when the INVITE has no usable Contact or From.
    pub(super) fn from_invite(invite: &Message, local_tag: &str) -> Option<Self> {
        let from = invite.from()?;
        let id = DialogId {
            call_id: invite.call_id().to_owned(),
            local_tag: local_tag.to_owned(),
            remote_tag: from.tag().unwrap_or_default().to_owned(),
        };
        Some(Self {
            id,
            local: format!("{};tag={local_tag}", invite.header("To")?),
            remote: invite.header("From")?.to_owned(),
            route_set: invite.list("Record-Route").map(str::to_owned).collect(),
            remote_target: contact_uri(invite)?,
            local_cseq: Arc::default(),
            remote_cseq: Some(invite.cseq()?.0),
        })
    }

    /// RFC 3261 12.1.2, of a response to our INVITE. The tag is empty when the response has none. A peer without a
    /// usable Contact is asked where the INVITE went.
    pub(super) fn from_response(invite: &Message, response: &Message) -> Option<Self> {
        let remote_tag = response.to_tag().unwrap_or_default();
        let mut route_set: Vec<_> = response.list("Record-Route").map(str::to_owned).collect();
        route_set.reverse();
        Some(Self {
            id: DialogId {
                call_id: invite.call_id().to_owned(),
                local_tag: invite.sender_tag()?,
                remote_tag,
            },
            local: invite.header("From")?.to_owned(),
            remote: response.header("To")?.to_owned(),
            route_set,
            remote_target: contact_uri(response).unwrap_or_else(|| invite.uri().to_owned()),
            local_cseq: Arc::new(AtomicU32::new(invite.cseq()?.0)),
            remote_cseq: None,
        })
    }

    /// The 2xx decides about the route set and the target of a dialog that was early (RFC 3261 13.2.2.4); the numbers of
    /// its requests go on.
    pub(super) fn confirm(&mut self, confirmed: Self) {
        self.route_set = confirmed.route_set;
        self.remote_target = confirmed.remote_target;
        self.remote = confirmed.remote;
    }

    /// Notes the CSeq of a request in the dialog; `false` when it is out of order (RFC 3261 12.2.2).
    pub(super) fn accept_cseq(&mut self, request: &Message) -> bool {
        let Some((number, _)) = request.cseq() else { return false };
        let in_order = self.remote_cseq.is_none_or(|last| number > last);
        if in_order {
            self.remote_cseq = Some(number);
        }
        in_order
    }

    /// Takes over the Contact of a re-INVITE, UPDATE or an answer to one (RFC 3261 12.2).
    pub(super) fn refresh_target(&mut self, message: &Message) {
        if let Some(target) = contact_uri(message) {
            self.remote_target = target;
        }
    }

    /// A request of ours in the dialog (RFC 3261 12.2.1.1), complete but for Via, Contact and body.
    pub(super) fn request(&mut self, method: &str) -> Message {
        let cseq = self.next_cseq();
        self.request_with_cseq(method, cseq)
    }

    fn next_cseq(&self) -> u32 {
        self.local_cseq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Gives out the numbers of further requests.
    pub(super) fn cseqs(&self) -> Arc<AtomicU32> {
        self.local_cseq.clone()
    }

    /// The ACK of a 2xx has the CSeq number of its INVITE (RFC 3261 13.2.2.4).
    pub(super) fn request_with_cseq(&self, method: &str, cseq: u32) -> Message {
        let strict = self.route_set.first().and_then(|first| {
            let uri = NameAddr::parse(first)?.uri;
            let loose = Uri::parse(&uri)?.param("lr").is_some();
            (!loose).then_some(uri)
        });
        let mut request = Message::request(method, strict.as_deref().unwrap_or(&self.remote_target));
        request.push("Max-Forwards", "70");
        request.push("From", &self.local);
        request.push("To", &self.remote);
        request.push("Call-ID", &self.id.call_id);
        request.push("CSeq", format!("{cseq} {method}"));
        for route in self.route_set.iter().skip(usize::from(strict.is_some())) {
            request.push("Route", route);
        }
        if strict.is_some() {
            request.push("Route", format!("<{}>", self.remote_target));
        }
        request
    }

    /// Where a request of ours is sent first: the topmost route, or the remote target.
    pub(super) fn next_hop(&self) -> Option<Uri> {
        match self.route_set.first() {
            Some(route) => Uri::parse(&NameAddr::parse(route)?.uri),
            None => Uri::parse(&self.remote_target),
        }
    }

    pub(super) fn has_route_set(&self) -> bool {
        !self.route_set.is_empty()
    }
}

/// The Contact URI without the headers that a URI may carry (RFC 3261 19.1.5).
fn contact_uri(message: &Message) -> Option<String> {
    let contact = NameAddr::parse(message.list("Contact").next()?)?;
    let uri = Uri::parse(&contact.uri)?;
    let addressable = !uri.host.is_empty();
    let at = contact.uri.rfind('@').unwrap_or(0);
    let end = contact.uri.get(at..)?.find('?').map_or(contact.uri.len(), |headers| at + headers);
    addressable.then(|| contact.uri.get(..end).map(str::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::parse;

    fn invite(extra: &str) -> Message {
        let text = format!(
            "INVITE sip:agent@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
             From: \"A\" <sip:a@192.0.2.9>;tag=ft\r\nTo: <sip:agent@192.0.2.1>\r\nCall-ID: c1\r\n\
             CSeq: 7 INVITE\r\nMax-Forwards: 70\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn requests_go_through_loose_routes_in_the_order_received() {
        let invite = invite(
            "Record-Route: <sip:p2.example;lr>, <sip:p1.example;lr>\r\nContact: <sip:a@192.0.2.9:5070>\r\n",
        );
        let mut dialog = Dialog::from_invite(&invite, "lt").unwrap();
        let bye = dialog.request("BYE");
        assert_eq!(bye.uri(), "sip:a@192.0.2.9:5070");
        assert_eq!(bye.values("Route").collect::<Vec<_>>(), ["<sip:p2.example;lr>", "<sip:p1.example;lr>"]);
        assert_eq!(bye.header("CSeq"), Some("1 BYE"));
        assert_eq!(bye.sender_tag().as_deref(), Some("lt"));
        assert_eq!(bye.to_tag().as_deref(), Some("ft"));
        assert_eq!(dialog.next_hop().unwrap().host, "p2.example");
        assert_eq!(dialog.request("INFO").header("CSeq"), Some("2 INFO"));
    }

    #[test]
    fn a_strict_router_gets_the_remote_target_as_the_last_route() {
        let invite = invite(
            "Record-Route: <sip:p2.example>\r\nRecord-Route: <sip:p1.example;lr>\r\nm: <sip:a@h.example>\r\n",
        );
        let mut dialog = Dialog::from_invite(&invite, "lt").unwrap();
        let bye = dialog.request("BYE");
        assert_eq!(bye.uri(), "sip:p2.example");
        assert_eq!(bye.values("Route").collect::<Vec<_>>(), ["<sip:p1.example;lr>", "<sip:a@h.example>"]);
    }

    #[test]
    fn cseq_must_grow_and_the_target_follows_the_contact() {
        let mut dialog =
            Dialog::from_invite(&invite("Contact: <sip:a@h1.example?Subject=x>\r\n"), "lt").unwrap();
        assert_eq!(dialog.request("BYE").uri(), "sip:a@h1.example", "headers of a URI are not for us");
        assert!(!dialog.accept_cseq(&invite("")), "7 was the INVITE itself");
        let mut update = invite("Contact: <sip:a@h2.example>\r\n");
        update.headers.iter_mut().find(|h| h.name == "CSeq").unwrap().value = "9 UPDATE".into();
        assert!(dialog.accept_cseq(&update));
        assert!(!dialog.accept_cseq(&update));
        dialog.refresh_target(&update);
        assert_eq!(dialog.next_hop().unwrap().host, "h2.example");
    }

    #[test]
    fn an_invite_without_a_usable_contact_makes_no_dialog() {
        assert!(Dialog::from_invite(&invite(""), "lt").is_none());
        assert!(Dialog::from_invite(&invite("Contact: *\r\n"), "lt").is_none());
        assert!(Dialog::from_invite(&invite("Contact: <tel:+15551234>\r\n"), "lt").is_none());
    }
}
