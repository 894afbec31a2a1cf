//! One frame: what the app hears, what the app says, what is sent.

use std::net::SocketAddr;

use super::send::MAX_PAYLOAD_BYTES;
use super::{App, PlayoutReport, Refusal, Stream, StreamEvent};
use crate::ai::AiPort;
use crate::ai::tap::TapTrack;
use crate::codec::Law;
use crate::rtp::TICK_NANOS;
use crate::source::Permission;
use crate::time::{Duration, Instant};

/// Caller audio on its way to an AI backend, in blocks of 20 ms whatever the frames are.
#[derive(Debug)]
pub(super) struct AiEar {
    block: [u8; AI_BLOCK_BYTES],
    filled: usize,
    /// Samples since the backend began to listen.
    position: u64,
}

impl AiEar {
    pub(super) const fn new() -> Self {
        Self { block: [0; AI_BLOCK_BYTES], filled: 0, position: 0 }
    }

    /// Samples since the backend began to listen.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Another backend listens, from the next sample on, and counts from there.
    pub(super) fn clear(&mut self) {
        (self.filled, self.position) = (0, 0);
    }

    /// Nothing is heard for so many samples: the timeline goes on, and what began a block ends it.
    fn skip(&mut self, port: &mut AiPort, tick: Instant, samples: u64) {
        let silence = [port.law().silence(); AI_BLOCK_BYTES];
        let padding = (AI_BLOCK_BYTES - self.filled) % AI_BLOCK_BYTES;
        let padding = samples.min(padding as u64);
        self.hear(port, tick, &silence[..padding as usize]);
        self.position += (samples - padding) / AI_BLOCK_BYTES as u64 * AI_BLOCK_BYTES as u64;
        let rest = (samples - padding) % AI_BLOCK_BYTES as u64;
        self.hear(port, tick, &silence[..rest as usize]);
    }

    /// Hands audio over; true if a block was completed.
    fn hear(&mut self, port: &mut AiPort, tick: Instant, mut audio: &[u8]) -> bool {
        let mut pushed = false;
        while !audio.is_empty() {
            let (now, later) = audio.split_at(audio.len().min(AI_BLOCK_BYTES - self.filled));
            self.block[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            self.position += now.len() as u64;
            audio = later;
            if self.filled == AI_BLOCK_BYTES {
                port.push_audio(tick, self.position - AI_BLOCK_BYTES as u64, &self.block);
                self.filled = 0;
                pushed = true;
            }
        }
        pushed
    }
}

impl Stream {
    /// Makes the frame of the tick at `tick`.
    pub(super) fn run_frame(&mut self, tick: Instant) {
        let samples = self.frame_samples();
        let mut heard = [0; MAX_PAYLOAD_BYTES];
        let heard = &mut heard[..samples];
        let law = self.hear(tick, heard);
        self.taps.hear(TapTrack::Inbound, tick, law, heard);
        self.send_frame(tick, samples, heard);
        self.taps.advance(samples as u64);
        self.sender.advance(samples as u32);
        self.check_silence(tick);
    }

    /// Writes what came in for the frame at `tick` to `heard`, and lets those hear it who listen to all. Answers
    /// the law that it is written in.
    fn hear(&mut self, tick: Instant, heard: &mut [u8]) -> Law {
        // An echo goes back as it came; a backend gets what its line has.
        let law = match &self.app {
            App::Ai(port) => port.law(),
            App::Silence | App::Echo | App::Player(_) => self.parameters.send.codec.law().unwrap_or(Law::Mu),
        };
        let pulled = self.receiver.pull(tick, law, heard);
        if let Some(digit) = self.receiver.handle_timeout(tick) {
            self.handle_digit(digit);
        }
        self.hear_tones(tick, pulled, law, heard);
        if let App::Ai(port) = &mut self.app
            && self.ear.hear(port, tick, heard)
        {
            self.ai_wakeup = Some(port.thread());
        }
        law
    }

    /// Frames from `tick` on that are not sent because the worker came too late. What came in for them is
    /// left out, but a backend hears all of it: it counts the time by it. Keys in it are heard, too.
    pub(super) fn skip_frames(&mut self, tick: Instant, frames: u64) {
        let (samples, duration) = (self.frame_samples(), self.frame_duration());
        let (mut left, mut at) = (frames, tick);
        if self.hears_tones() || matches!(self.app, App::Ai(_)) {
            let mut heard = [0; MAX_PAYLOAD_BYTES];
            for _ in 0..frames.min(FRAMES_HEARD_LATE) {
                self.hear(at, &mut heard[..samples]);
                left -= 1;
                at += duration;
            }
        }
        if left > 0 {
            self.skip_tones(at);
        }
        if let App::Ai(port) = &mut self.app {
            self.ear.skip(port, at, left * samples as u64);
            self.ai_wakeup = Some(port.thread());
        }
        self.receiver.skip(left * samples as u64);
        self.taps.advance(frames * samples as u64);
        self.sender.advance((frames * samples as u64) as u32);
        self.sender.pause();
    }

    /// Samples per frame that we send.
    pub(super) fn frame_samples(&self) -> usize {
        let samples = (self.parameters.ptime.as_nanos() / u128::from(TICK_NANOS)) as usize;
        samples.clamp(SHORTEST_FRAME, MAX_PAYLOAD_BYTES)
    }

    /// How long a frame lasts.
    pub(super) fn frame_duration(&self) -> Duration {
        Duration::from_nanos(self.frame_samples() as u64 * TICK_NANOS)
    }

    /// What the player has played so far, if there is one that has not reported yet.
    pub(super) fn player_report(&mut self) -> Option<PlayoutReport> {
        let App::Player(player) = &self.app else { return None };
        if std::mem::replace(&mut self.player_reported, true) {
            return None;
        }
        Some(PlayoutReport {
            played_samples: player.played_samples(),
            position: player.played_samples(),
            rtp_timestamp: self.sender.timestamp(),
            complete: player.is_finished(),
        })
    }

    /// Sends a digit or what the app says. While nothing may be sent a player waits, so that what it counts
    /// as played was really sent, but bot audio runs on unheard: a caller who comes back from hold wants to
    /// hear what the bot says now. A digit holds both back.
    fn send_frame(&mut self, tick: Instant, samples: usize, heard: &[u8]) {
        let timestamp = self.sender.timestamp();
        let format = self.parameters.send;
        let mut said = [0; MAX_PAYLOAD_BYTES];
        let said = &mut said[..samples];
        let Some(remote) = self.destination_now(tick) else {
            if let App::Ai(port) = &mut self.app {
                port.pass(tick, timestamp, samples);
            }
            return self.sender.pause();
        };
        match self.parameters.telephone_event {
            Some(event) => {
                self.tone_sender.clear();
                if let Some(packet) = self.dtmf_sender.next_frame(timestamp, samples as u32) {
                    let payload = packet.event.write();
                    self.sender.send(tick, remote, packet.marker, event.send, packet.timestamp, &payload);
                    return self.hold_audio(tick, timestamp);
                }
            }
            None => {
                let mut pcm = [0; MAX_PAYLOAD_BYTES];
                let pcm = &mut pcm[..samples];
                if let Some(law) = format.codec.law()
                    && self.say_tones(tick, pcm)
                {
                    law.encode(pcm, said);
                    self.taps.hear(TapTrack::Outbound, tick, law, said);
                    self.sender.send_audio(tick, remote, format.payload_type, said);
                    return self.hold_audio(tick, timestamp);
                }
            }
        }
        let Some(law) = format.codec.law() else { return self.sender.pause() };
        match &mut self.app {
            App::Silence => said.fill(law.silence()),
            App::Echo => said.copy_from_slice(heard),
            App::Ai(port) => {
                let filled = port.pull(tick, timestamp, said).min(said.len());
                // Unless a re-INVITE has changed the law in mid-call, the bot's audio stays as it is.
                if port.law() != law {
                    port.law().transcode_in_place(law, said);
                    // By table the silence of A-law is just beside that of mu-law.
                    let mut silence = [port.law().silence()];
                    port.law().transcode_in_place(law, &mut silence);
                    said[filled..]
                        .iter_mut()
                        .filter(|byte| **byte == silence[0])
                        .for_each(|b| *b = law.silence());
                }
            }
            App::Player(player) => {
                let mut pcm = [0; MAX_PAYLOAD_BYTES];
                let pcm = &mut pcm[..samples];
                let played = player.pull(pcm);
                law.encode(pcm, said);
                if player.is_finished() && !self.player_reported {
                    self.player_reported = true;
                    let report = PlayoutReport {
                        played_samples: player.played_samples(),
                        position: player.played_samples(),
                        rtp_timestamp: timestamp.wrapping_add(played as u32),
                        complete: true,
                    };
                    self.push_event(StreamEvent::PlayFinished(report));
                }
            }
        }
        self.taps.hear(TapTrack::Outbound, tick, law, said);
        self.sender.send_audio(tick, remote, format.payload_type, said);
    }

    /// A key is sent instead of what the app says, which waits; only marks and clears are answered.
    fn hold_audio(&mut self, tick: Instant, timestamp: u32) {
        if let App::Ai(port) = &mut self.app {
            // Without a byte of room.
            port.pull(tick, timestamp, &mut []);
        }
    }

    /// Where media goes now; `None` if it must not.
    fn destination_now(&mut self, tick: Instant) -> Option<SocketAddr> {
        let remote = self.rtp_destination().filter(|_| self.parameters.direction.sends())?;
        match self.sender.may_send_to(tick, remote) {
            Permission::Granted => Some(remote),
            Permission::Silent => None,
            Permission::Forbidden => {
                self.refusals.add(Refusal::ForbiddenDestination);
                None
            }
        }
    }

    /// Reports a peer that has been silent for too long, once until it is heard again.
    fn check_silence(&mut self, now: Instant) {
        let limit = if self.parameters.direction.receives() {
            self.parameters.media_timeout
        } else {
            self.parameters.hold_timeout
        };
        let silent = now.saturating_duration_since(self.last_heard);
        if !limit.is_zero() && silent >= limit && !self.silence_reported {
            self.silence_reported = true;
            self.push_event(StreamEvent::MediaTimeout);
        }
    }
}

/// 20 ms.
const AI_BLOCK_BYTES: usize = 160;
/// Frames that a late worker catches up on for a backend to hear: about what the jitter buffer holds.
const FRAMES_HEARD_LATE: u64 = 50;
/// 5 ms; no peer may ask for less.
const SHORTEST_FRAME: usize = 40;
