//! AF_XDP as configured.

use xdp::Device;
use xdp::af_xdp::{BusyPoll, ModeWanted, Options, Queues, ZeroCopy, open as open_interface};

use crate::config::{AfXdpConfig, Want, XdpMode};

/// A device for each of `workers`, and a sentence about what they came to. `ports` is how many ports each may open.
///
/// # Errors
/// Why there is none, in words.
pub(super) fn open(
    config: &AfXdpConfig,
    workers: usize,
    ports: usize,
) -> Result<(Vec<Box<dyn Device>>, String), String> {
    let interface = config.interface.as_deref().ok_or("no interface is named (media.interface)")?;
    let kernel_sockets = xdp::udp::Options { ports, ..xdp::udp::Options::default() };
    let devices = open_interface(&options(config, interface), workers, &kernel_sockets)
        .map_err(|refusal| refusal.to_string())?;
    let taken = devices.first().map(|device| device.taken());
    if config.hugepages == Want::Require
        && let Some(refused) =
            taken.and_then(|taken| taken.refused.iter().find(|sentence| sentence.starts_with("huge pages")))
    {
        return Err(format!("media.hugepages is `require`: {refused}"));
    }
    let description = taken.map(ToString::to_string).unwrap_or_default();
    Ok((devices.into_iter().map(|device| Box::new(device) as Box<dyn Device>).collect(), description))
}

fn options(config: &AfXdpConfig, interface: &str) -> Options {
    Options {
        queues: match &*config.queues {
            [] => Queues::All,
            queues => Queues::List(queues.to_vec()),
        },
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
        // What is out of range is refused there.
        frames: u32::try_from(config.frames).unwrap_or(u32::MAX),
        ring: u32::try_from(config.ring).unwrap_or(u32::MAX),
        hugepages: config.hugepages != Want::Never,
        busy_poll: config.busy_poll.then_some(BUSY_POLL),
        flood_limit: (config.flood_limit > 0).then_some(config.flood_limit),
        ..Options::new(interface)
    }
}

/// As long as it takes to receive a full budget.
const BUSY_POLL: BusyPoll = BusyPoll { microseconds: 20, budget: 64 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_configuration() {
        let given = AfXdpConfig {
            interface: Some("eth1".into()),
            queues: vec![0, 2],
            mode: XdpMode::Generic,
            zero_copy: Want::Never,
            frames: 4096,
            ring: 512,
            hugepages: Want::Never,
            busy_poll: true,
            flood_limit: 500,
        };
        let made = options(&given, "eth1");
        let expected = Options {
            queues: Queues::List(vec![0, 2]),
            mode: ModeWanted::Generic,
            zero_copy: ZeroCopy::Never,
            frames: 4096,
            ring: 512,
            hugepages: false,
            busy_poll: Some(BUSY_POLL),
            flood_limit: Some(500),
            ..Options::new("eth1")
        };
        assert_eq!(made, expected);
        let defaults = options(&AfXdpConfig::default(), "eth1");
        assert_eq!((defaults.flood_limit, defaults.busy_poll, defaults.queues), (None, None, Queues::All));
        assert!(defaults.hugepages);
    }

    #[test]
    fn without_an_interface_there_is_none() {
        let refused = open(&AfXdpConfig::default(), 1, 16).map(|_| ()).expect_err("no interface");
        assert_eq!(refused, "no interface is named (media.interface)");
    }
}
