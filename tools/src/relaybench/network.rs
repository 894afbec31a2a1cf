//! Two hosts on a cable: network namespaces joined by a veth pair whose receive work runs in threads of known cores.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// One end of the cable.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) namespace: String,
    pub(super) interface: String,
    pub(super) ip: Ipv4Addr,
    pub(super) core: usize,
}

/// Both ends; removed when dropped.
pub(super) struct Cable {
    pub(super) parties: Host,
    pub(super) relay: Host,
}

impl Cable {
    pub(super) fn new(name: &str, relay_core: usize) -> anyhow::Result<Self> {
        // The name of a thread for receiving begins with the interface's, and threads are the same for all namespaces.
        let number = std::process::id() % 100_000;
        let host = |end: &str, last: u8, core: usize| Host {
            namespace: format!("{name}-{end}"),
            interface: format!("{}{number}", &end[..1]),
            ip: Ipv4Addr::new(198, 18, 0, last),
            core,
        };
        let cable = Self { parties: host("parties", 1, relay_core + 1), relay: host("relay", 2, relay_core) };
        let [parties, relay] = [&cable.parties, &cable.relay];
        for host in [parties, relay] {
            run(&["ip", "netns", "add", &host.namespace]).with_context(|| {
                format!("a namespace of this name is left over? ip netns del {}", host.namespace)
            })?;
        }
        let link = ["ip", "-n", &parties.namespace, "link", "add", &parties.interface, "type", "veth"];
        run(&[&link[..], &["peer", "name", &relay.interface, "netns", &relay.namespace]].concat())?;
        for host in [parties, relay] {
            let address = format!("{}/24", host.ip);
            run(&["ip", "-n", &host.namespace, "addr", "add", &address, "dev", &host.interface])?;
            run(&["ip", "-n", &host.namespace, "link", "set", "lo", "up"])?;
            run(&["ip", "-n", &host.namespace, "link", "set", &host.interface, "up"])?;
            // Checksums are real, as on a cable; frames of programs are taken.
            host.run(&["ethtool", "-K", &host.interface, "tx", "off"])?;
            host.run(&["ethtool", "-K", &host.interface, "gro", "on"])?;
            host.set("threaded", 1)?;
            host.pin_receiver()?;
        }
        Ok(cable)
    }

    /// How long received frames may gather on both ends before the thread is woken, as a network card's interrupts are moderated; 0
    /// wakes for each.
    pub(super) fn moderate(&self, time: Duration) -> anyhow::Result<()> {
        for host in [&self.parties, &self.relay] {
            host.set("gro_flush_timeout", time.as_nanos())?;
            host.set("napi_defer_hard_irqs", u128::from(!time.is_zero()))?;
        }
        Ok(())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for host in [&self.parties, &self.relay] {
            let _ = run(&["ip", "netns", "del", &host.namespace]);
        }
    }
}

impl Host {
    /// A program on this host.
    pub(super) fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(program).stdin(Stdio::null());
        command
    }

    /// Runs a program on this host to its end.
    pub(super) fn run(&self, program: &[&str]) -> anyhow::Result<()> {
        run(&[&["ip", "netns", "exec", self.namespace.as_str()], program].concat())
    }

    fn set(&self, what: &str, value: impl std::fmt::Display) -> anyhow::Result<()> {
        let file = format!("/sys/class/net/{}/{what}", self.interface);
        self.run(&["sh", "-c", &format!("echo {value} >{file}")])
            .with_context(|| format!("cannot set {file}"))
    }

    /// The thread that receives for this host's interface.
    pub(super) fn receiver(&self) -> anyhow::Result<u32> {
        let begin = format!("napi/{}-", self.interface);
        let processes = std::fs::read_dir("/proc").context("cannot read /proc")?.flatten();
        for process in processes {
            let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            if name.starts_with(&begin) {
                return Ok(id);
            }
        }
        bail!("there is no thread {begin}..: has this kernel threaded NAPI?")
    }

    /// Above the relay and the generator, as interrupts are.
    fn pin_receiver(&self) -> anyhow::Result<()> {
        let thread = self.receiver()?.to_string();
        run(&["taskset", "-pc", &self.core.to_string(), &thread])?;
        run(&["chrt", "-f", "-p", "40", &thread])
    }
}

/// Runs a program to its end.
///
/// # Errors
/// What it says.
pub(super) fn run(program: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program[0]).args(&program[1..]).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", program[0]))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        program.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
