//! The ladder of devices: the best that can be had, and why none of the better ones.

use xdp::Device;
use xdp::io_uring::UringDevice;
use xdp::udp::UdpDevice;

use super::{StartError, af_xdp};
use crate::config::{DeviceKind, EngineConfig};

/// The devices of all workers, and the better ones with the reasons that they were refused for, best first.
pub(super) type Opened = (Vec<Box<dyn Device>>, Vec<(DeviceKind, String)>);

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
            Ok(devices) => return Ok((devices, refused)),
            Err(reason) => refused.push((device, reason)),
        }
    }
    let (device, reason) = refused.pop().unwrap_or_default();
    Err(StartError::DeviceUnavailable { device, reason })
}

/// Best first.
const LADDER: [DeviceKind; 4] =
    [DeviceKind::AfXdp, DeviceKind::SkLookup, DeviceKind::IoUring, DeviceKind::Udp];

fn open_kind(
    device: DeviceKind,
    config: &EngineConfig,
    workers: usize,
) -> Result<Vec<Box<dyn Device>>, String> {
    // RTP and RTCP, of each side of a relay; never more than the worker's share of the range.
    let range = usize::from(config.media_ports.end().saturating_sub(*config.media_ports.start())) + 1;
    let ports = (2 * config.streams_per_worker + 4 * config.relays_per_worker).min(range.div_ceil(workers));
    match device {
        DeviceKind::AfXdp => {
            let (devices, taken) = af_xdp::open(&config.af_xdp, workers, ports)?;
            tracing::info!("{taken}");
            Ok(devices)
        }
        DeviceKind::SkLookup => Err("this version does not have it".to_owned()),
        DeviceKind::IoUring => each(workers, || {
            UringDevice::new(&xdp::io_uring::Options { ports, ..xdp::io_uring::Options::default() })
        }),
        DeviceKind::Auto | DeviceKind::Udp => {
            each(workers, || UdpDevice::new(&xdp::udp::Options { ports, ..xdp::udp::Options::default() }))
        }
    }
}

/// One device for each worker.
fn each<D: Device + 'static, E: ToString>(
    workers: usize,
    mut open: impl FnMut() -> Result<D, E>,
) -> Result<Vec<Box<dyn Device>>, String> {
    (0..workers)
        .map(|_| open().map(|device| Box::new(device) as Box<dyn Device>).map_err(|error| error.to_string()))
        .collect()
}
