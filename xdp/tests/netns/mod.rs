//! Two hosts on a cable: network namespaces joined by a veth pair, made and removed by the test itself.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How the cable is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Receive and transmit queues of each end.
    pub queues: u32,
    /// Whether checksums of what kernel sockets send are complete on the cable, as they are on a real one. veth leaves
    /// them to the receiver otherwise.
    pub checksums: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { queues: 1, checksums: true }
    }
}

/// Two hosts and the cable between them.
pub struct Cable {
    pub near: Host,
    pub far: Host,
}

/// One end: a network namespace with `lo` and one interface.
pub struct Host {
    pub namespace: String,
    pub interface: String,
    pub mac: [u8; 6],
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

impl Cable {
    /// Makes the hosts, or says by name that the test is skipped.
    pub fn or_skip(test: &str, options: Options) -> Option<Self> {
        match Self::new(options) {
            Ok(cable) => Some(cable),
            Err(reason) => {
                skip(test, &reason);
                None
            }
        }
    }

    /// Makes the hosts.
    ///
    /// # Errors
    /// What the machine lacks.
    pub fn new(options: Options) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".to_owned());
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("st{}-{number}{end}", std::process::id());
        let host = |end: &str, last: u8| Host {
            namespace: name(end),
            // An interface's name has at most 15 characters.
            interface: format!("st{last}"),
            mac: [2, 0, 0, 0, 0, last],
            ipv4: Ipv4Addr::new(198, 18, 0, last),
            ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()),
        };
        let cable = Self { near: host("n", 1), far: host("f", 2) };
        for end in cable.ends() {
            run("ip", &["netns", "add", &end.namespace])?;
        }
        let queues = options.queues.to_string();
        let (near, far) = (&cable.near, &cable.far);
        run(
            "ip",
            &[
                "-n",
                &near.namespace,
                "link",
                "add",
                &near.interface,
                "address",
                &near.mac_text(),
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
                "type",
                "veth",
                "peer",
                "name",
                &far.interface,
                "address",
                &far.mac_text(),
                "numrxqueues",
                &queues,
                "numtxqueues",
                &queues,
                "netns",
                &far.namespace,
            ],
        )?;
        for end in cable.ends() {
            let ip = |arguments: &[&str]| run("ip", &[&["-n", end.namespace.as_str()], arguments].concat());
            ip(&["addr", "add", &format!("{}/24", end.ipv4), "dev", &end.interface])?;
            ip(&["addr", "add", &format!("{}/64", end.ipv6), "dev", &end.interface, "nodad"])?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["link", "set", &end.interface, "up"])?;
            if options.checksums {
                end.ethtool(&["-K", &end.interface, "tx", "off"])?;
            }
        }
        Ok(cable)
    }

    fn ends(&self) -> [&Host; 2] {
        [&self.near, &self.far]
    }
}

impl Host {
    /// Runs `work` on a thread of this host; threads that it starts are there, too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread to this host.
    pub fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
    }

    /// A program on this host.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// `ethtool` on this host.
    ///
    /// # Errors
    /// What it says.
    pub fn ethtool(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["netns", "exec", &self.namespace, "ethtool"], arguments].concat())
    }

    /// The number of its interface.
    pub fn index(&self) -> u32 {
        self.run(|| {
            let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            rustix::net::netdevice::name_to_index(socket, &self.interface).expect("its interface")
        })
    }

    /// The address of a family.
    pub fn ip(&self, ipv6: bool) -> IpAddr {
        if ipv6 { self.ipv6.into() } else { self.ipv4.into() }
    }

    fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in self.ends() {
            let _ = run("ip", &["netns", "del", &end.namespace]);
        }
    }
}

/// Says that a test was skipped, where the runner counts it; in the CI that is a failure.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var_os("SIDETONE_REQUIRE_PEERS").is_none(), "{test}: {reason}");
    note(test, reason);
}

/// Says that a test was skipped for what nobody can install, in the CI too: the kernel was built without it.
pub fn note(test: &str, reason: &str) {
    let line = format!("{test}: {reason}\n");
    let _ = write!(std::io::stderr(), "SKIPPED {line}");
    if let Some(file) = std::env::var_os("SIDETONE_SKIP_FILE") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
