//! Which device would be taken, from facts alone: nothing is opened or attached.

use engine::config::{DeviceKind, Want, XdpMode};
use xdp::host::link::Attached;

use super::Facts;

/// The device, and why none of the better ones.
pub(super) fn choose(facts: &Facts) -> (DeviceKind, Vec<(DeviceKind, String)>) {
    let wanted = facts.engine.device;
    if wanted != DeviceKind::Auto {
        return (wanted, refusal(facts, wanted).map(|reason| (wanted, reason)).into_iter().collect());
    }
    let mut refused = Vec::new();
    for device in [DeviceKind::AfXdp, DeviceKind::SkLookup, DeviceKind::IoUring] {
        match refusal(facts, device) {
            Some(reason) => refused.push((device, reason)),
            None => return (device, refused),
        }
    }
    (DeviceKind::Udp, refused)
}

/// Why a device cannot be had.
pub(super) fn refusal(facts: &Facts, device: DeviceKind) -> Option<String> {
    let kernel = facts.machine.kernel_version();
    let older = |least: (u32, u32)| {
        kernel
            .filter(|&version| version < least)
            .map(|_| format!("Linux {} is older than {}.{}", facts.machine.kernel, least.0, least.1))
    };
    let missing = facts.missing_for(device);
    let privileges = || (!missing.is_empty()).then(|| format!("this process lacks {}", missing.join(", ")));
    match device {
        DeviceKind::AfXdp => af_xdp(facts).or_else(|| older(FOR_AF_XDP)).or_else(privileges),
        DeviceKind::SkLookup => older(FOR_SK_LOOKUP).or_else(privileges),
        DeviceKind::IoUring => {
            older(FOR_IO_URING).or_else(|| match facts.machine.settings.io_uring_disabled {
                Some(2) => Some("kernel.io_uring_disabled is 2".to_owned()),
                Some(1) => Some("kernel.io_uring_disabled is 1: for members of its group only".to_owned()),
                _ => None,
            })
        }
        DeviceKind::Auto | DeviceKind::Udp => None,
    }
}

fn af_xdp(facts: &Facts) -> Option<String> {
    let config = &facts.engine.af_xdp;
    let interface = match &facts.interface {
        None => return Some("no interface is named (media.interface)".to_owned()),
        Some(Err(error)) => return Some(format!("the interface cannot be used: {error}")),
        Some(Ok(interface)) => interface,
    };
    let name = &interface.name;
    if matches!(
        interface.attached,
        Some(Attached::Native | Attached::Generic | Attached::Offloaded | Attached::Several)
    ) {
        return Some(format!("{name} has an XDP program already"));
    }
    let driver = interface.xdp?;
    if !driver.native && config.mode == XdpMode::Native {
        return Some(format!("the driver of {name} runs no XDP programs and media.xdp_mode is native"));
    }
    if !driver.zero_copy && config.zero_copy == Want::Require {
        return Some(format!("the driver of {name} has no zero-copy and media.zero_copy is require"));
    }
    None
}

/// Several sockets share frames (5.10), and a program is a link that ends with the process (5.9).
pub(super) const FOR_AF_XDP: (u32, u32) = (5, 10);

/// BPF_PROG_TYPE_SK_LOOKUP.
const FOR_SK_LOOKUP: (u32, u32) = (5, 9);

/// Multishot receive into provided buffers.
const FOR_IO_URING: (u32, u32) = (6, 0);
