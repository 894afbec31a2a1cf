//! Named counters that one thread writes and any thread reads.

/// Declares a struct of relaxed atomic counters with a name and a help text each, so that every counter
/// that exists is also exported:
///
/// ```
/// xdp::counters! {
///     /// What the example counted.
///     pub struct ExampleCounters { seen: "Things seen" }
/// }
/// let counters = ExampleCounters::default();
/// counters.seen.add(2);
/// counters.for_each(|name, help, value| assert_eq!((name, help, value), ("seen", "Things seen", 2)));
/// ```
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* pub struct $name:ident { $($field:ident: $help:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name { $(#[doc = $help] pub $field: $crate::Counter,)* }

        impl $name {
            /// Calls `visit` with the name, the help text and the value of every counter.
            pub fn for_each(&self, mut visit: impl FnMut(&'static str, &'static str, u64)) {
                $(visit(stringify!($field), $help, self.$field.value());)*
            }
        }
    };
}

/// A number that only grows. Cheap enough for the packet path: one relaxed add, no fence.
#[derive(Debug, Default)]
pub struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
