//! Which part of the queued bot audio belongs to which item of the backend, so that an interruption can tell
//! how much of each was played.

use std::collections::VecDeque;
use std::ops::Range;

use super::dialect::{AudioFormat, ItemPlayed};

/// The items that are not played to their end yet. Positions count line samples of bot audio since the
/// stream's start.
#[derive(Debug)]
pub(super) struct Items {
    bot: AudioFormat,
    line: AudioFormat,
    segments: VecDeque<Segment>,
    /// The newest item has come to its end.
    ended: bool,
}

/// Audio of one item that is in one piece on the line.
#[derive(Clone, Debug)]
struct Segment {
    item: u32,
    /// Positions.
    span: Range<u64>,
    /// Bytes of the backend's.
    received: u64,
}

/// Samples of the backend's.
#[derive(Clone, Copy, Debug)]
struct Total {
    item: u32,
    played: u64,
    received: u64,
}

impl Items {
    pub(super) fn new(bot: AudioFormat, line: AudioFormat) -> Self {
        Self { bot, line, segments: VecDeque::new(), ended: false }
    }

    /// The backend's audio is of another kind from now on.
    pub(super) fn change_bot_format(&mut self, bot: AudioFormat) {
        self.bot = bot;
    }

    /// `received` more bytes of an item are queued at these positions.
    pub(super) fn add(&mut self, item: u32, span: Range<u64>, received: usize) {
        self.ended = false;
        let received = received as u64;
        if let Some(last) = self.segments.back_mut()
            && last.item == item
            && last.span.end == span.start
        {
            last.span.end = span.end;
            last.received += received;
            return;
        }
        if self.segments.len() >= MAX_SEGMENTS {
            self.segments.pop_front();
        }
        self.segments.push_back(Segment { item, span, received });
    }

    /// The newest item is complete.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Forgets the items that were played to their end before `position`. The newest stays until its end has
    /// come: more of it may follow.
    pub(super) fn forget_played(&mut self, position: u64) {
        while let Some(first) = self.segments.front()
            && first.span.end <= position
            && (self.ended || self.segments.len() > 1)
            && !self.segments.iter().skip(1).any(|later| later.item == first.item)
        {
            self.segments.pop_front();
        }
    }

    /// Playout was cut, and what was queued before `until` is not played any more: how much of each of those
    /// items was, oldest first. Forgets them. `played` tells how many samples of a span were.
    ///
    /// Times are in the backend's own samples, rounded down, and never more than was received.
    pub(super) fn interrupt(&mut self, until: u64, played: impl Fn(Range<u64>) -> u64) -> Vec<ItemPlayed> {
        let mut totals: Vec<Total> = Vec::new();
        while self.segments.front().is_some_and(|first| first.span.start < until)
            && let Some(Segment { item, span, received }) = self.segments.pop_front()
        {
            let received = received / self.bot.encoding.sample_bytes() as u64;
            let heard = played(span) * u64::from(self.bot.rate) / u64::from(self.line.rate.max(1));
            let played = heard.min(received);
            match totals.iter_mut().find(|total| total.item == item) {
                Some(total) => {
                    total.played += played;
                    total.received += received;
                }
                None => totals.push(Total { item, played, received }),
            }
        }
        let duration = |samples| self.bot.duration(samples * self.bot.encoding.sample_bytes() as u64);
        totals
            .into_iter()
            .map(|Total { item, played, received }| ItemPlayed {
                item,
                played: duration(played),
                received: duration(received),
            })
            .collect()
    }
}

/// Far more than any queue holds.
const MAX_SEGMENTS: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Duration;

    fn items() -> Items {
        Items::new(AudioFormat::l16(24_000), AudioFormat::PCMU)
    }

    fn played(item: u32, played_ms: u64, received_ms: u64) -> ItemPlayed {
        ItemPlayed {
            item,
            played: Duration::from_millis(played_ms),
            received: Duration::from_millis(received_ms),
        }
    }

    /// All was played up to a position.
    fn up_to(position: u64) -> impl Fn(Range<u64>) -> u64 {
        move |span| position.clamp(span.start, span.end) - span.start
    }

    #[test]
    fn each_item_counts_from_its_own_start() {
        let mut items = items();
        items.add(1, 0..8_000, 48_000);
        items.end();
        items.add(2, 8_000..12_000, 24_000);
        items.add(2, 12_000..16_000, 24_000);
        items.add(3, 16_000..16_800, 4_800);
        items.forget_played(9_600);
        assert_eq!(items.interrupt(16_800, up_to(9_600)), [played(2, 200, 1_000), played(3, 0, 100)]);
        assert_eq!(items.interrupt(16_800, up_to(9_600)), []);
    }

    #[test]
    fn what_was_queued_after_the_clear_is_not_interrupted() {
        let mut items = items();
        items.add(1, 0..8_000, 48_000);
        items.add(2, 8_000..16_000, 48_000);
        assert_eq!(items.interrupt(8_000, up_to(800)), [played(1, 100, 1_000)]);
        assert_eq!(items.interrupt(16_000, up_to(8_800)), [played(2, 100, 1_000)]);
    }

    #[test]
    fn the_newest_item_is_kept_until_it_has_ended() {
        let mut items = items();
        items.add(1, 0..800, 4_800);
        items.forget_played(800);
        items.add(1, 800..1_600, 4_800);
        items.forget_played(1_600);
        assert_eq!(items.interrupt(1_600, up_to(1_600)), [played(1, 200, 200)]);
        items.add(2, 1_600..2_400, 4_800);
        items.end();
        items.forget_played(2_400);
        assert_eq!(items.interrupt(2_400, up_to(2_400)), []);
    }

    #[test]
    fn an_item_in_several_pieces_is_one() {
        let mut items = items();
        items.add(1, 0..800, 4_800);
        items.add(2, 800..1_600, 4_800);
        items.add(1, 1_600..2_400, 4_800);
        items.forget_played(2_000);
        assert_eq!(items.interrupt(2_400, up_to(2_000)), [played(1, 150, 200), played(2, 100, 100)]);
    }

    #[test]
    fn what_found_no_room_was_received_and_not_played() {
        let mut items = items();
        items.add(1, 0..400, 48_000);
        assert_eq!(items.interrupt(400, up_to(400)), [played(1, 50, 1_000)]);
    }

    proptest! {
        #[test]
        fn never_more_is_played_than_was_received(
            pieces in proptest::collection::vec((0u32..4, 0u64..4_000), 0..60),
            position in 0u64..100_000,
            bot_rate in prop_oneof![Just(8_000u32), Just(16_000), Just(24_000), Just(48_000)],
        ) {
            let mut items = Items::new(AudioFormat::l16(bot_rate), AudioFormat::PCMA);
            let (mut end, mut received) = (0, 0);
            for (item, samples) in pieces {
                // What resampling makes of it: the sum is rounded down.
                received += samples;
                let line_end = received * 8_000 / u64::from(bot_rate);
                items.add(item, end..line_end, samples as usize * 2);
                end = line_end;
            }
            items.forget_played(position);
            for item in items.interrupt(u64::MAX, up_to(position)) {
                prop_assert!(item.played <= item.received);
            }
        }
    }
}
