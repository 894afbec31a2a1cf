//! Who listens to a stream without being heard in it.

use super::Stream;
use crate::ai::tap::{TapId, TapPort};

impl Stream {
    /// Adds a listener, or gives it back if there is no room.
    #[must_use]
    pub fn add_tap(&mut self, tap: Box<TapPort>) -> Option<Box<TapPort>> {
        self.taps.add(tap)
    }

    /// Takes a listener out.
    #[must_use]
    pub fn remove_tap(&mut self, id: TapId) -> Option<Box<TapPort>> {
        self.taps.remove(id)
    }
}
