//! What the XDP program counts, per CPU.

use crate::bpf::Verdict;

/// Declares the events with their names, help texts and verdicts.
macro_rules! events {
    ($($name:ident $field:literal $verdict:ident $help:literal;)*) => {
        /// What became of a frame. Each is counted once, but forwarded frames in their flow, and `PassedUnclaimed` besides
        /// the reason why the frame was to go to AF_XDP.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Event { $(#[doc = $help] $name,)* }

        impl Event {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name for metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $field,)* }
            }

            /// What it means.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }

            /// What the program answers then.
            pub(super) const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)* }
            }
        }
    };
}

events! {
    Redirected "redirected" Redirect "Frames given to AF_XDP";
    RaisedControl "raised_control" Redirect "RTCP of a forwarded flow, given to AF_XDP";
    RaisedPayloadType "raised_payload_type" Redirect "Frames of a forwarded flow with another payload type, given to AF_XDP";
    RaisedOther "raised_other" Redirect "Frames of a forwarded flow that are not whole RTP or whose flow just changed, given to AF_XDP";
    PassedShort "passed_short" Pass "Frames too short for UDP, passed to the kernel";
    PassedEthertype "passed_ethertype" Pass "Frames that are not IP behind at most one VLAN tag, passed to the kernel";
    PassedProtocol "passed_protocol" Pass "Packets that are not UDP or have IPv6 extension headers, passed to the kernel";
    PassedOptions "passed_options" Pass "UDP with IPv4 options or a wrong IP version, passed to the kernel";
    PassedFragment "passed_fragment" Pass "Fragments, passed to the kernel";
    PassedPort "passed_port" Pass "UDP to other ports, passed to the kernel";
    PassedLength "passed_length" Pass "UDP to our ports whose lengths do not agree, passed to the kernel";
    PassedAddress "passed_address" Pass "UDP to our ports at another address or MAC, passed to the kernel";
    PassedGuarded "passed_guarded" Pass "UDP to guarded ports, passed to the kernel";
    PassedUnclaimed "passed_unclaimed" Pass "Frames that found no AF_XDP socket on their queue, passed to the kernel";
    DroppedStrangers "dropped_strangers" Drop "Datagrams dropped because their port is connected to somebody else";
    DroppedFloods "dropped_floods" Drop "Datagrams dropped because their sender sends too many to ports that are not connected";
    DroppedHeadroom "dropped_headroom" Drop "Forwarded packets dropped because the driver left no room for a VLAN tag";
}

/// How many there are.
pub(super) const EVENTS: usize = Event::ALL.len();

/// The counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCounters {
    pub(super) events: [u64; EVENTS],
    /// Packets forwarded by the kernel, of all flows.
    pub forwarded: u64,
}

impl ProgramCounters {
    /// How often something happened.
    #[must_use]
    pub fn count(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Calls `visit` with the name, the help text and the value of every counter.
    pub fn for_each(&self, mut visit: impl FnMut(&'static str, &'static str, u64)) {
        visit("forwarded", "Packets forwarded in the kernel", self.forwarded);
        Event::ALL.iter().for_each(|event| visit(event.name(), event.help(), self.count(*event)));
    }
}
