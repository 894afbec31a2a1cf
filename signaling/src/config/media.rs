//! The checks of `[media]` and what the engine makes of it.

use std::time::Duration;

use engine::config::{AfXdpConfig, DeviceKind, EngineConfig, PortSteering, WaitPolicy};

use super::choices::{Device, InbandDtmf, Simd, Steering, Wait, Want, XdpMode};
use super::plan::Check;
use super::sections::Config;

pub(super) fn check(check: &mut Check<'_>) {
    let media = &check.loaded.config.media;
    let tables: Vec<&str> = engine::simd::available().map(|kernels| kernels.name).collect();
    if media.simd != Simd::Auto && !tables.contains(&media.simd.name()) {
        check.error(
            "media.simd",
            format!(
                "media.simd: this CPU does not run `{}`; use auto, {}",
                media.simd.name(),
                tables.join(", ")
            ),
        );
    }
    let milliseconds = media.ptime.0.as_millis();
    if !(10..=60).contains(&milliseconds) || !milliseconds.is_multiple_of(10) {
        check.error("media.ptime", "media.ptime: must be 10ms, 20ms, 30ms, 40ms, 50ms or 60ms");
    }
    if media.codecs.is_empty() {
        check.error("media.codecs", "media.codecs: name at least one of pcmu, pcma");
    }
    for (index, codec) in media.codecs.iter().enumerate() {
        if media.codecs[..index].contains(codec) {
            check.error("media.codecs", "media.codecs: a codec is named twice");
        }
    }
    af_xdp(check);
    threads(check);
    for (key, value, largest) in [
        ("streams_per_worker", media.streams_per_worker, 1 << 16),
        ("relays_per_worker", media.relays_per_worker, 1 << 16),
        ("receive_budget", media.receive_budget, 1 << 16),
        ("command_ring", media.command_ring, 1 << 20),
        ("event_ring", media.event_ring, 1 << 20),
    ] {
        if !(1..=largest).contains(&value) {
            check.error(&format!("media.{key}"), format!("media.{key}: must be 1 to {largest}"));
        }
    }
}

fn af_xdp(check: &mut Check<'_>) {
    let media = &check.loaded.config.media;
    if media.device == Device::AfXdp && media.interface.is_none() {
        check.error(
            "media.device",
            "media.device: `af_xdp` needs media.interface (--interface), the network interface that media comes in on",
        );
    }
    if let Some(interface) = &media.interface
        && !matches!(media.device, Device::Auto | Device::AfXdp)
    {
        check.warn(format!(
            "media.interface `{interface}` has no effect: the device `{}` is not bound to an interface",
            media.device.name()
        ));
    }
    if !(RINGS.contains(&media.ring) && media.ring.is_power_of_two()) {
        check.error(
            "media.ring",
            format!("media.ring: must be a power of two from {} to {}", RINGS.start(), RINGS.end()),
        );
    }
    if !FRAMES.contains(&media.frames) {
        check.error("media.frames", format!("media.frames: must be {} to {}", FRAMES.start(), FRAMES.end()));
    } else if media.frames < 2 * media.ring {
        check.error(
            "media.frames",
            format!(
                "media.frames: {} is too few for rings of {}: at least {}, half of them to receive and half to send",
                media.frames,
                media.ring,
                2 * media.ring
            ),
        );
    }
    if media.zero_copy == Want::Require && media.xdp_mode == XdpMode::Generic {
        check.error(
            "media.zero_copy",
            "media.zero_copy: `require` and media.xdp_mode `generic` exclude each other; zero-copy is the driver's",
        );
    }
}

fn threads(check: &mut Check<'_>) {
    let config = &check.loaded.config;
    let media = &config.media;
    if media.tick.0 > LONGEST_TICK {
        check.error("media.tick", "media.tick: must be 0ms to 10ms; half a packet's time is late enough");
    }
    if media.wait == Wait::Busy && media.cpus.0.is_empty() {
        check.warn(
            "media.wait `busy` without media.cpus: workers that never sleep share their CPUs with everything else; \
             name CPUs of their own",
        );
    }
    let stream_cpus = &media.stream_cpus.0;
    let shared = |others: &[usize]| media.cpus.0.iter().copied().find(|cpu| others.contains(cpu));
    for (key, cpu) in
        [("media.stream_cpus", shared(stream_cpus)), ("signaling.cpus", shared(&config.signaling.cpus.0))]
    {
        let Some(cpu) = cpu else { continue };
        // A worker that never sleeps, or that the scheduler may not interrupt, leaves nothing to the others.
        if media.wait == Wait::Busy || media.priority.0.is_some() {
            check.error(
                key,
                format!(
                    "{key}: CPU {cpu} is one of media.cpus, whose workers leave it to nobody \
                     (media.wait `busy` or media.priority); take another"
                ),
            );
        } else {
            check.warn(format!(
                "{key}: CPU {cpu} is one of media.cpus, too; media will be late when it is busy"
            ));
        }
    }
}

/// Bounds of `media.ring`.
const RINGS: std::ops::RangeInclusive<usize> = 64..=32_768;

/// Bounds of `media.frames`: 256 KiB to 2 GiB.
const FRAMES: std::ops::RangeInclusive<usize> = 128..=1 << 20;

/// Longer than this a packet of 20 ms would miss its turn.
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// What the engine starts from.
pub(super) fn engine_config(config: &Config) -> EngineConfig {
    let media = &config.media;
    EngineConfig {
        media_cpus: media.cpus.0.clone(),
        stream_cpus: media.stream_cpus.0.clone(),
        media_ports: media.ports.0.clone(),
        device: match media.device {
            Device::Auto => DeviceKind::Auto,
            Device::AfXdp => DeviceKind::AfXdp,
            Device::SkLookup => DeviceKind::SkLookup,
            Device::IoUring => DeviceKind::IoUring,
            Device::Udp => DeviceKind::Udp,
        },
        af_xdp: af_xdp_config(config),
        steering: match media.steering {
            Steering::Auto => PortSteering::Auto,
            Steering::Rules => PortSteering::Rules,
            Steering::Hash => PortSteering::Hash,
            Steering::Off => PortSteering::Off,
        },
        kernel_relay: media.kernel_relay,
        wait: match media.wait {
            Wait::Busy => WaitPolicy::Busy,
            Wait::Adaptive => WaitPolicy::Adaptive,
            Wait::Sleep => WaitPolicy::Sleep,
        },
        tick: media.tick.0,
        priority: media.priority.0,
        lock_memory: media.lock_memory,
        streams_per_worker: media.streams_per_worker,
        relays_per_worker: media.relays_per_worker,
        command_ring: media.command_ring,
        event_ring: media.event_ring,
        receive_budget: media.receive_budget,
        silent_peer_limit: media.silent_peer_limit.0,
        inband_dtmf: match media.inband_dtmf {
            InbandDtmf::Auto => engine::config::InbandDtmf::Auto,
            InbandDtmf::Always => engine::config::InbandDtmf::Always,
            InbandDtmf::Off => engine::config::InbandDtmf::Off,
        },
    }
}

fn af_xdp_config(config: &Config) -> AfXdpConfig {
    let media = &config.media;
    AfXdpConfig {
        interface: media.interface.as_ref().map(|name| name.0.clone()),
        queues: media.queues.0.clone(),
        mode: match media.xdp_mode {
            XdpMode::Auto => engine::config::XdpMode::Auto,
            XdpMode::Native => engine::config::XdpMode::Native,
            XdpMode::Generic => engine::config::XdpMode::Generic,
        },
        zero_copy: want(media.zero_copy),
        frames: media.frames,
        ring: media.ring,
        hugepages: want(media.hugepages),
        busy_poll: media.busy_poll,
        flood_limit: media.flood_limit,
        guarded_ports: guarded_ports(config),
    }
}

/// The ports of SIP, if they fall under the flood limit.
fn guarded_ports(config: &Config) -> Vec<u16> {
    if !config.media.flood_limit_sip || config.media.flood_limit == 0 {
        return Vec::new();
    }
    let mut ports: Vec<u16> = config.sip.bind.iter().map(|address| address.0.port()).collect();
    ports.retain(|&port| port != 0);
    ports.sort_unstable();
    ports.dedup();
    ports
}

const fn want(want: Want) -> engine::config::Want {
    match want {
        Want::Auto => engine::config::Want::Auto,
        Want::Never => engine::config::Want::Never,
        Want::Require => engine::config::Want::Require,
    }
}
