//! Our side of a session's descriptions: one `o=` line whose version grows with every change.

use std::net::SocketAddr;

use super::super::{Attribute, Connection, MediaDescription, Origin, SessionDescription};
use super::{Answer, Offer};

/// Our side of a session's descriptions (RFC 3264 section 8: the same `o=` but for the version, which grows
/// by one when anything has changed and only then).
#[derive(Clone, Debug)]
pub struct LocalSession {
    id: u64,
    version: u64,
    last: Option<SessionDescription>,
}

impl LocalSession {
    /// A session that nothing has been said about yet. The id must differ from all others of this host.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        // RFC 8866 numbers may be larger, but peers in the field read 63 bits.
        Self { id: id & (u64::MAX >> 1), version: 1, last: None }
    }

    /// The description of an answer, received at `local` (RTP).
    pub fn describe_answer(&mut self, answer: &Answer, local: SocketAddr) -> SessionDescription {
        self.describe(answer.media.clone(), answer.accepted, local)
    }

    /// The description of an offer, received at `local` (RTP).
    pub fn describe_offer(&mut self, offer: &Offer, local: SocketAddr) -> SessionDescription {
        self.describe(offer.media.clone(), offer.audio, local)
    }

    /// What the peer was told last.
    #[must_use]
    pub const fn last(&self) -> Option<&SessionDescription> {
        self.last.as_ref()
    }

    fn describe(
        &mut self,
        mut media: Vec<MediaDescription>,
        audio: usize,
        local: SocketAddr,
    ) -> SessionDescription {
        if let Some(media) = media.get_mut(audio) {
            media.port = local.port();
            for attribute in &mut media.attributes {
                if let Attribute::Rtcp { port, .. } = attribute {
                    *port = local.port();
                }
            }
        }
        let mut description = SessionDescription {
            origin: Origin {
                username: "-".to_owned(),
                session_id: self.id.to_string(),
                session_version: self.version.to_string(),
                address: local.ip().to_string(),
                ipv6: local.is_ipv6(),
            },
            session_name: "-".to_owned(),
            connection: Some(Connection::Address(local.ip())),
            attributes: Vec::new(),
            media,
        };
        if self.last.as_ref().is_some_and(|last| *last != description) {
            self.version += 1;
            description.origin.session_version = self.version.to_string();
        }
        self.last = Some(description.clone());
        description
    }
}
