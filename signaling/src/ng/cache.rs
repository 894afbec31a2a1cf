//! Replies that are kept so that a command sent again is answered again and not executed again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Replies by source and cookie, in two generations: an entry lives 30 to 60 s, less under a flood.
#[derive(Debug)]
pub(super) struct ReplyCache {
    young: Generation,
    old: Generation,
    swapped: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Generation {
    entries: HashMap<Key, Entry>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: SocketAddr,
    pub(super) cookie: Box<[u8]>,
}

#[derive(Debug)]
enum Entry {
    /// Being worked on; so many more have asked meanwhile.
    Running { waiting: u16 },
    /// The reply, cookie included.
    Done(Arc<[u8]>),
}

/// What is known about a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing; it is now noted as running.
    New,
    /// It runs; its reply will be sent once more.
    Running,
    /// It was answered so.
    Done(Arc<[u8]>),
}

impl ReplyCache {
    pub(super) fn new(now: Instant) -> Self {
        Self { young: Generation::default(), old: Generation::default(), swapped: now }
    }

    /// Looks a command up and notes it if it is new. What is too old comes back to be dropped elsewhere:
    /// that takes a while.
    pub(super) fn look_up(&mut self, key: &Key, now: Instant) -> (Known, Option<Generation>) {
        let full = self.young.entries.len() >= MAX_ENTRIES || self.young.bytes >= MAX_BYTES;
        let expired = (full || now.duration_since(self.swapped) >= GENERATION).then(|| {
            self.swapped = now;
            let young = std::mem::take(&mut self.young);
            let mut expired = std::mem::replace(&mut self.old, young);
            // What runs is not forgotten, or it would run twice.
            for (key, entry) in expired.entries.extract_if(|_, entry| matches!(entry, Entry::Running { .. }))
            {
                self.young.entries.insert(key, entry);
            }
            expired
        });
        let known = match self.young.entries.get_mut(key).or_else(|| self.old.entries.get_mut(key)) {
            Some(Entry::Running { waiting }) => {
                *waiting = waiting.saturating_add(1);
                Known::Running
            }
            Some(Entry::Done(reply)) => Known::Done(Arc::clone(reply)),
            None => {
                self.young.entries.insert(key.clone(), Entry::Running { waiting: 0 });
                Known::New
            }
        };
        (known, expired.filter(|expired| !expired.entries.is_empty()))
    }

    /// Notes the reply of a command; how many times it is to be sent.
    pub(super) fn finish(&mut self, key: &Key, reply: Arc<[u8]>) -> u16 {
        let generation = if self.young.entries.contains_key(key) { &mut self.young } else { &mut self.old };
        let Some(entry) = generation.entries.get_mut(key) else { return 1 };
        generation.bytes += reply.len() + key.cookie.len() + ENTRY_BYTES;
        match std::mem::replace(entry, Entry::Done(reply)) {
            Entry::Running { waiting } => waiting.min(MOST_COPIES).saturating_add(1),
            Entry::Done(_) => 1,
        }
    }

    /// Forgets a command that was not executed, so that sending it again may succeed.
    pub(super) fn forget(&mut self, key: &Key) {
        if self.young.entries.remove(key).is_none() {
            self.old.entries.remove(key);
        }
    }

    /// How many commands are remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }
}

/// How long entries stay in the young generation.
const GENERATION: Duration = Duration::from_secs(30);
/// Entries of a generation; then it is closed early.
const MAX_ENTRIES: usize = 1 << 18;
/// Bytes of replies of a generation; then it is closed early.
const MAX_BYTES: usize = 64 << 20;
/// What an entry takes besides its reply, about.
const ENTRY_BYTES: usize = 128;
/// Copies of one reply for those who asked while it was made.
const MOST_COPIES: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cookie: &str) -> Key {
        Key { source: ([127, 0, 0, 1], 9).into(), cookie: cookie.as_bytes().into() }
    }

    fn reply(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn a_command_is_executed_once_and_answered_every_time() {
        let start = Instant::now();
        let mut cache = ReplyCache::new(start);
        assert_eq!(cache.look_up(&key("a"), start).0, Known::New);
        assert_eq!(cache.look_up(&key("a"), start).0, Known::Running);
        assert_eq!(cache.finish(&key("a"), reply("r")), 2);
        assert_eq!(cache.look_up(&key("a"), start).0, Known::Done(reply("r")));
        let elsewhere = Key { source: ([127, 0, 0, 2], 9).into(), ..key("a") };
        assert_eq!(cache.look_up(&elsewhere, start).0, Known::New, "cookies are unique per source only");
    }

    #[test]
    fn entries_live_for_30_to_60_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = ReplyCache::new(start);
        cache.look_up(&key("a"), at(1));
        cache.finish(&key("a"), reply("r"));
        assert_eq!(cache.look_up(&key("a"), at(29)).0, Known::Done(reply("r")));
        assert_eq!(cache.look_up(&key("a"), at(31)).0, Known::Done(reply("r")));
        let (known, expired) = cache.look_up(&key("a"), at(62));
        assert_eq!((known, expired.is_some()), (Known::New, true));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn what_runs_is_not_forgotten() {
        let start = Instant::now();
        let mut cache = ReplyCache::new(start);
        cache.look_up(&key("slow"), start);
        for seconds in [31, 62, 93] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(cache.look_up(&key("slow"), now).0, Known::Running);
        }
        assert_eq!(cache.finish(&key("slow"), reply("r")), 4);
        cache.forget(&key("slow"));
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_flood_ages_the_cache_instead_of_growing_it() {
        let start = Instant::now();
        let mut cache = ReplyCache::new(start);
        let large = reply(&"x".repeat(1 << 16));
        for number in 0..5000 {
            let key = key(&number.to_string());
            cache.look_up(&key, start);
            cache.finish(&key, Arc::clone(&large));
        }
        assert!(cache.len() <= 2 * MAX_BYTES / large.len(), "{}", cache.len());
    }
}
