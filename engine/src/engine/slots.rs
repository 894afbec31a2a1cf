//! Which of a worker's slots are free, and the ports of those that are not.

/// See the module's documentation. `P` is what a slot holds of the worker's ports.
#[derive(Debug)]
pub(super) struct Slots<P> {
    slots: Vec<Slot<P>>,
    /// Free slots, the one that was free for longest last.
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Slot<P> {
    generation: u32,
    ports: Option<P>,
}

impl<P: Copy> Slots<P> {
    pub(super) fn new(count: usize) -> Self {
        let slot = Slot { generation: 0, ports: None };
        Self { slots: vec![slot; count], free: (0..count as u32).rev().collect() }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is free.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes a slot for these ports; its number and generation.
    pub(super) fn take(&mut self, ports: P) -> Option<(u32, u32)> {
        let number = self.free.pop()?;
        let slot = &mut self.slots[number as usize];
        slot.ports = Some(ports);
        Some((number, slot.generation))
    }

    /// Frees a slot and gives its ports back; `None` if that has been done.
    pub(super) fn release(&mut self, number: u32, generation: u32) -> Option<P> {
        let slot = self.slots.get_mut(number as usize).filter(|slot| slot.generation == generation)?;
        let ports = slot.ports.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(number);
        Some(ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_released_once_and_has_another_generation_then() {
        let mut slots = Slots::new(1);
        assert_eq!(slots.take(4000), Some((0, 0)));
        assert!(slots.is_full() && slots.take(4002).is_none());
        assert_eq!(slots.release(0, 0), Some(4000));
        assert_eq!(slots.release(0, 0), None);
        assert_eq!((slots.take(4002), slots.taken()), (Some((0, 1)), 1));
        assert_eq!(slots.release(7, 1), None);
    }
}
