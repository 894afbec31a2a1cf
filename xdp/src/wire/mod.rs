//! The bytes around a datagram: Ethernet with at most one VLAN tag, IPv4 without options, IPv6 without extension
//! headers, UDP. [`UdpFrame::parse`] reads a whole frame and says by a [`Reject`] what it is otherwise;
//! [`HeaderTemplate`] writes the headers in front of a payload.
//!
//! ```text
//! | destination MAC | source MAC | [0x8100, tag] | 0x0800 / 0x86dd | IPv4 20 / IPv6 40 | UDP 8 | payload |
//! ```
#![deny(clippy::indexing_slicing)]

pub mod checksum;
pub mod ethernet;
mod frame;
pub mod ipv4;
pub mod ipv6;
mod template;
pub mod udp;

#[cfg(test)]
mod tests;

pub use checksum::UdpChecksum;
pub use ethernet::MacAddress;
pub use frame::UdpFrame;
pub use template::{HeaderTemplate, Hop};

/// The longest header: Ethernet with a tag, IPv6 and UDP.
pub const MAX_HEADER_BYTES: usize =
    ethernet::HEADER_BYTES + ethernet::TAG_BYTES + ipv6::HEADER_BYTES + udp::HEADER_BYTES;

/// The shortest frame without its check sequence (IEEE 802.3 section 3.2.8).
pub const MIN_FRAME_BYTES: usize = 60;

macro_rules! rejects {
    ($($(#[$doc:meta])* $variant:ident $field:ident $help:literal),* $(,)?) => {
        /// Why a frame is not one of our datagrams. Each reason is a counter of [`RejectCounters`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reject { $(#[doc = $help] $variant,)* }

        impl Reject {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
        }

        $crate::counters! {
            /// Frames that were no datagrams of ours, by reason.
            pub struct RejectCounters { $($field: $help,)* }
        }

        impl RejectCounters {
            /// Counts one.
            pub fn count(&self, reject: Reject) {
                match reject { $(Reject::$variant => self.$field.increment(),)* }
            }
        }
    };
}

rejects! {
    Short reject_short "Frames that end within a header",
    NotIp reject_not_ip "Frames that are neither IPv4 nor IPv6",
    TwoTags reject_two_tags "Frames with two VLAN tags or a service tag",
    IpOptions reject_ip_options "IPv4 packets with options",
    Fragment reject_fragment "IPv4 fragments",
    ExtensionHeader reject_extension_header "IPv6 packets with extension headers, fragments among them",
    NotUdp reject_not_udp "IP packets of other protocols than UDP",
    BadLength reject_bad_length "Packets whose length fields contradict each other or the frame",
    BadHeaderChecksum reject_bad_header_checksum "IPv4 headers with a wrong checksum",
    BadChecksum reject_bad_checksum "Datagrams with a wrong UDP checksum, or without one on IPv6",
    ImpossibleSource reject_impossible_source "Packets whose source address nobody can have, such as multicast or loopback",
}
