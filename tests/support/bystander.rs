//! A well-behaved call beside trouble: every packet it sends is unlike any other, so what comes back tells
//! exactly which packets made it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::phone::Phone;
use super::rtp::noise_payloads;
use super::within;

/// An echo call that sends noise.
pub(crate) struct Bystander {
    phone: Phone,
    sent: Vec<Vec<u8>>,
}

impl Bystander {
    /// Calls `echo` and sends noise for up to `seconds`.
    pub(crate) fn start(server: SocketAddr, seconds: usize) -> Self {
        let phone = Phone::dial(server, "echo").expect("the bystander's call is answered");
        // Let the jitter buffer and the latch settle, then count.
        std::thread::sleep(Duration::from_millis(400));
        let sent = noise_payloads(u64::from(phone.media_address().port()), seconds * 50);
        phone.play_payloads(sent.clone());
        Self { phone, sent }
    }

    pub(crate) fn phone(&self) -> &Phone {
        &self.phone
    }

    /// Ends the call and says how it fared.
    pub(crate) fn finish(self) -> Harm {
        // Four seconds at least, so that a share of them means something.
        assert!(within(Duration::from_secs(6), || self.sent.len() - self.phone.unspoken() >= 200));
        // What was not sent yet is not counted; what was sent comes back within a second.
        self.phone.mute(true);
        std::thread::sleep(Duration::from_secs(1));
        let sent = self.sent.len() - self.phone.unspoken();
        let heard = self.phone.heard();
        let echoed: HashSet<&[u8]> = heard.iter().map(|packet| packet.payload.as_slice()).collect();
        let lost = self.sent[..sent].iter().filter(|payload| !echoed.contains(payload.as_slice())).count();
        let longest_gap =
            heard.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).max().unwrap_or_default();
        assert!(self.phone.ended().is_none(), "the bystander's call was ended");
        assert_eq!(self.phone.hang_up(), Some(200), "the bystander's BYE is answered");
        Harm { sent, lost, longest_gap }
    }
}

/// What trouble elsewhere did to a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Harm {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
    pub(crate) longest_gap: Duration,
}

impl Harm {
    /// At most this share of packets was lost.
    pub(crate) fn is_below(self, share: f64) {
        assert!(self.sent > 50, "the call was too short to say: {self:?}");
        assert!(self.lost as f64 <= self.sent as f64 * share, "too many packets were lost: {self:?}");
    }
}
