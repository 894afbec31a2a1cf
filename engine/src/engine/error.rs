//! What the control side refuses, and why.

use std::io;

use crate::command::Command;
use crate::config::DeviceKind;
use crate::relay::Relay;
use crate::stream::Stream;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A worker would have no RTP and RTCP port pair.
    #[error(
        "the media ports {first} to {last} hold no even/odd pair for each of {workers} workers; \
         give a larger range"
    )]
    TooFewPorts {
        /// The first port of the range.
        first: u16,
        /// The last port of the range.
        last: u16,
        /// How many workers share it.
        workers: usize,
    },
    /// A number in the configuration makes no sense.
    #[error("{name} must be between {least} and {most}")]
    OutOfRange {
        /// The key in [`crate::config::EngineConfig`].
        name: &'static str,
        /// The least value.
        least: usize,
        /// The greatest value.
        most: usize,
    },
    /// A worker cannot run on the CPU it was given.
    #[error("media CPU {cpu} does not exist or this process may not use it: {source}")]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// The operating system's error.
        source: io::Error,
    },
    /// Two workers would run on one CPU.
    #[error("media CPU {cpu} is named twice; each worker needs one of its own")]
    SharedCpu {
        /// The CPU.
        cpu: usize,
    },
    /// A worker's thread did not start.
    #[error("the thread of worker {worker} did not start: {source}")]
    Thread {
        /// The worker.
        worker: usize,
        /// The operating system's error.
        source: io::Error,
    },
    /// The device asked for cannot be had.
    #[error("the device {device} cannot be used: {reason}")]
    DeviceUnavailable {
        /// The device.
        device: DeviceKind,
        /// Why.
        reason: String,
    },
    /// The event doorbell could not be made.
    #[error("no file descriptor for the event doorbell: {0}")]
    Doorbell(io::Error),
}

/// Why a stream was not added. The stream comes back, and may be added again.
#[derive(Debug, thiserror::Error)]
pub enum AddStreamError {
    /// Every worker has as many streams as it was started for.
    #[error("every worker is full: raise streams_per_worker or media_cpus")]
    NoSlot(Box<Stream>),
    /// The workers with a free slot have no free port pair.
    #[error("no media port is free: widen media_ports")]
    NoPort(Box<Stream>),
    /// The workers' command rings are full; try again.
    #[error("the command rings of all workers are full")]
    CommandRingFull(Box<Stream>),
    /// The engine has been shut down.
    #[error("the engine has been shut down")]
    ShutDown(Box<Stream>),
}

impl AddStreamError {
    /// The stream that was not added.
    #[must_use]
    pub fn into_stream(self) -> Box<Stream> {
        match self {
            Self::NoSlot(stream)
            | Self::NoPort(stream)
            | Self::CommandRingFull(stream)
            | Self::ShutDown(stream) => stream,
        }
    }
}

/// Why a relay was not added. The relay comes back, and may be added again.
#[derive(Debug, thiserror::Error)]
pub enum AddRelayError {
    /// Every worker has as many relays as it was started for.
    #[error("every worker is full: raise relays_per_worker or media_cpus")]
    NoSlot(Box<Relay>),
    /// No worker with a free slot has two free port pairs.
    #[error("no two media port pairs are free in one worker: widen media_ports")]
    NoPort(Box<Relay>),
    /// The workers' command rings are full; try again.
    #[error("the command rings of all workers are full")]
    CommandRingFull(Box<Relay>),
    /// The engine has been shut down.
    #[error("the engine has been shut down")]
    ShutDown(Box<Relay>),
}

impl AddRelayError {
    /// The relay that was not added.
    #[must_use]
    pub fn into_relay(self) -> Box<Relay> {
        match self {
            Self::NoSlot(relay)
            | Self::NoPort(relay)
            | Self::CommandRingFull(relay)
            | Self::ShutDown(relay) => relay,
        }
    }
}

/// The worker's command ring is full: back-pressure. The command comes back.
#[derive(Debug, thiserror::Error)]
#[error("the worker's command ring is full")]
pub struct CommandRingFull(pub Box<Command>);
