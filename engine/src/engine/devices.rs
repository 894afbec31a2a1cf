//! The ladder of devices: the best that can be had, and why none of the better ones.

use xdp::Device;
use xdp::af_xdp::{self, BusyPoll, ModeWanted, Queues, ZeroCopy};
use xdp::io_uring::UringDevice;
use xdp::udp::UdpDevice;

use super::StartError;
use crate::config::{AfXdpConfig, DeviceKind, EngineConfig, Want, XdpMode};

/// What the ladder led to.
pub(super) struct Opened {
    /// One device for each worker.
    pub(super) devices: Vec<Box<dyn Device>>,
    /// The better ones with the reasons that they were refused for, best first.
    pub(super) refused: Vec<(DeviceKind, String)>,
    /// The interface that the devices share.
    pub(super) interface: Option<af_xdp::Interface>,
}

/// Opens the device that was asked for, for each of `workers`.
///
/// # Errors
/// [`StartError::DeviceUnavailable`], if one was named or none can be had.
pub(super) fn open(config: &EngineConfig, workers: usize) -> Result<Opened, StartError> {
    let named = [config.device];
    let wanted = if config.device == DeviceKind::Auto { LADDER.as_slice() } else { named.as_slice() };
    let mut refused = Vec::new();
    for &device in wanted {
        match open_kind(device, config, workers) {
            Ok(opened) => return Ok(Opened { refused, ..opened }),
            Err(reason) => refused.push((device, reason)),
        }
    }
    let (device, reason) = refused.pop().unwrap_or_default();
    Err(StartError::DeviceUnavailable { device, reason })
}

/// Best first.
const LADDER: [DeviceKind; 4] =
    [DeviceKind::AfXdp, DeviceKind::SkLookup, DeviceKind::IoUring, DeviceKind::Udp];

fn open_kind(device: DeviceKind, config: &EngineConfig, workers: usize) -> Result<Opened, String> {
    // RTP and RTCP, of each side of a relay; never more than the worker's share of the range.
    let range = usize::from(config.media_ports.end().saturating_sub(*config.media_ports.start())) + 1;
    let ports = (2 * config.streams_per_worker + 4 * config.relays_per_worker).min(range.div_ceil(workers));
    let devices = match device {
        DeviceKind::AfXdp => {
            return open_af_xdp(&config.af_xdp, &config.media_cpus, ports, workers);
        }
        DeviceKind::SkLookup => {
            let options = xdp::sk_lookup::Options { ports, ..xdp::sk_lookup::Options::default() };
            boxed(xdp::sk_lookup::open(&options, workers))
        }
        DeviceKind::IoUring => each(workers, || {
            UringDevice::new(&xdp::io_uring::Options { ports, ..xdp::io_uring::Options::default() })
        }),
        DeviceKind::Auto | DeviceKind::Udp => {
            each(workers, || UdpDevice::new(&xdp::udp::Options { ports, ..xdp::udp::Options::default() }))
        }
    };
    Ok(Opened { devices: devices?, refused: Vec::new(), interface: None })
}

fn open_af_xdp(
    config: &AfXdpConfig,
    media_cpus: &[usize],
    ports: usize,
    workers: usize,
) -> Result<Opened, String> {
    let Some(interface) = &config.interface else {
        return Err("no interface is named (media.interface)".to_owned());
    };
    let options = af_xdp::Options {
        queues: if config.queues.is_empty() { Queues::All } else { Queues::List(config.queues.clone()) },
        mode: match config.mode {
            XdpMode::Auto => ModeWanted::Auto,
            XdpMode::Native => ModeWanted::Native,
            XdpMode::Generic => ModeWanted::Generic,
        },
        zero_copy: match config.zero_copy {
            Want::Auto => ZeroCopy::Auto,
            Want::Never => ZeroCopy::Never,
            Want::Require => ZeroCopy::Require,
        },
        frames: u32::try_from(config.frames).unwrap_or(u32::MAX),
        ring: u32::try_from(config.ring).unwrap_or(u32::MAX),
        hugepages: config.hugepages != Want::Never,
        busy_poll: config.busy_poll.then_some(BUSY_POLL),
        media_cpus: media_cpus.to_vec(),
        guarded_ports: config.guarded_ports.clone(),
        flood_limit: Some(config.flood_limit).filter(|&limit| limit > 0),
        ..af_xdp::Options::new(interface)
    };
    let udp = xdp::udp::Options { ports, ..xdp::udp::Options::default() };
    let devices = af_xdp::open(&options, workers, &udp).map_err(|refusal| refusal.to_string())?;
    let Some(first) = devices.first() else { return Err("there is no worker".to_owned()) };
    let interface = first.interface();
    let ordinary = first.taken().refused.iter().find(|sentence| sentence.starts_with("huge pages"));
    if let Some(reason) = ordinary.filter(|_| config.hugepages == Want::Require) {
        return Err(format!("media.hugepages is `require`: {reason}"));
    }
    let devices = boxed(Ok::<_, String>(devices))?;
    Ok(Opened { devices, refused: Vec::new(), interface: Some(interface) })
}

/// One device for each worker.
fn each<D: Device + 'static, E: ToString>(
    workers: usize,
    open: impl Fn() -> Result<D, E>,
) -> Result<Vec<Box<dyn Device>>, String> {
    boxed((0..workers).map(|_| open()).collect::<Result<Vec<_>, _>>())
}

fn boxed<D: Device + 'static, E: ToString>(
    devices: Result<Vec<D>, E>,
) -> Result<Vec<Box<dyn Device>>, String> {
    let devices = devices.map_err(|error| error.to_string())?;
    Ok(devices.into_iter().map(|device| Box::new(device) as Box<dyn Device>).collect())
}

/// How much a worker takes from the driver's queue at once: about what it takes per turn.
const BUSY_POLL: BusyPoll = BusyPoll { microseconds: 20, budget: 64 };
