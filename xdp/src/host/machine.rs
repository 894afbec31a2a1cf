//! The machine: kernel, CPUs, memory, limits, privileges.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::text::{Root, field, list, ranges};

/// What the machine is and how it is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release, such as `6.12.30-amd64`.
    pub kernel: String,
    /// Whether it runs on a hypervisor; `None` where the CPU does not say.
    pub virtual_machine: Option<bool>,
    /// The CPUs that are online.
    pub cpus: Vec<usize>,
    /// The CPUs that this process may use.
    pub allowed: Vec<usize>,
    /// CPUs that the scheduler leaves alone (`isolcpus`, or an isolated cpuset).
    pub isolated: Vec<usize>,
    /// CPUs without a timer tick while one thread runs (`nohz_full`).
    pub tickless: Vec<usize>,
    /// CPUs by NUMA node.
    pub nodes: BTreeMap<usize, Vec<usize>>,
    /// For each CPU those that share its core, itself included.
    pub siblings: BTreeMap<usize, Vec<usize>>,
    /// The frequency governor of each CPU that has one.
    pub governors: BTreeMap<usize, String>,
    /// What `clock_gettime` reads.
    pub clock_source: Option<String>,
    /// Huge pages.
    pub hugepages: Option<HugePages>,
    /// Limits of this process.
    pub limits: Limits,
    /// Capabilities in effect, as a mask.
    pub capabilities: Option<u64>,
    /// Kernel settings.
    pub settings: Settings,
}

/// Huge pages of the default size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Of one.
    pub size_kib: u64,
    /// Set aside.
    pub total: u64,
    /// Of these not in use.
    pub free: u64,
}

/// Limits of a process; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// RLIMIT_MEMLOCK, in bytes.
    pub locked_bytes: Option<u64>,
    /// RLIMIT_NOFILE: the hard limit, to which a program may raise the soft one itself.
    pub open_files: Option<u64>,
    /// RLIMIT_RTPRIO.
    pub real_time_priority: Option<u64>,
}

/// Settings of the kernel (`/proc/sys`); `None` where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `net.core.bpf_jit_enable`; only root may see it.
    pub bpf_jit_enable: Option<u32>,
    /// `kernel.io_uring_disabled`.
    pub io_uring_disabled: Option<u32>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved_ports: Option<Vec<RangeInclusive<u16>>>,
    /// `net.ipv4.ip_local_port_range`: the ports that the kernel gives to who asks for any.
    pub ephemeral_ports: Option<RangeInclusive<u16>>,
    /// `net.core.rmem_max`, in bytes.
    pub rmem_max: Option<u64>,
    /// `net.core.netdev_budget`: packets per round of receiving.
    pub netdev_budget: Option<u32>,
    /// `kernel.sched_rt_runtime_us`: how much of `sched_rt_period_us` real-time threads may run; -1 all.
    pub rt_runtime_us: Option<i64>,
}

/// A privilege, by its number (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Interfaces, XDP programs.
    NetAdmin = 12,
    /// Raw and AF_XDP sockets.
    NetRaw = 13,
    /// Memory that stays in RAM.
    IpcLock = 14,
    /// All that has no capability of its own.
    SysAdmin = 21,
    /// Real-time priorities.
    SysNice = 23,
    /// Higher limits.
    SysResource = 24,
    /// BPF programs that look further than the verifier lets everybody: the XDP program does.
    Perfmon = 38,
    /// BPF programs.
    Bpf = 39,
}

impl Capability {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysNice => "CAP_SYS_NICE",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn read() -> Self {
        Self {
            allowed: crate::thread::allowed_cpus(),
            limits: Limits::read(),
            ..Self::read_below(Path::new("/"))
        }
    }

    /// What the files below `root` say; [`Machine::allowed`] and [`Machine::limits`] stay empty.
    #[must_use]
    pub fn read_below(root: &Path) -> Self {
        let root = Root::new(root);
        let cpus = root.list("sys/devices/system/cpu/online").unwrap_or_default();
        let of_cpus = |file: &str| {
            let text =
                |&cpu: &usize| Some((cpu, root.text(&format!("sys/devices/system/cpu/cpu{cpu}/{file}"))?));
            cpus.iter().filter_map(text).collect::<BTreeMap<usize, String>>()
        };
        let siblings = of_cpus("topology/thread_siblings_list");
        let node_of = |name: &String| -> Option<(usize, Vec<usize>)> {
            let number = name.strip_prefix("node")?.parse().ok()?;
            Some((number, root.list(&format!("sys/devices/system/node/{name}/cpulist"))?))
        };
        let status = root.text("proc/self/status").unwrap_or_default();
        Self {
            kernel: root.text("proc/sys/kernel/osrelease").unwrap_or_default(),
            virtual_machine: root.text("proc/cpuinfo").and_then(|text| {
                let flags = text.lines().find(|line| line.starts_with("flags"))?;
                Some(flags.split_whitespace().any(|flag| flag == "hypervisor"))
            }),
            isolated: root.list("sys/devices/system/cpu/isolated").unwrap_or_default(),
            tickless: root.list("sys/devices/system/cpu/nohz_full").unwrap_or_default(),
            nodes: root.names("sys/devices/system/node").iter().filter_map(node_of).collect(),
            siblings: siblings.into_iter().map(|(cpu, text)| (cpu, list(&text))).collect(),
            governors: of_cpus("cpufreq/scaling_governor"),
            clock_source: root.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            hugepages: root.text("proc/meminfo").and_then(|text| HugePages::parse(&text)),
            capabilities: field(&status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok()),
            settings: Settings::read(&root),
            allowed: Vec::new(),
            limits: Limits::default(),
            cpus,
        }
    }

    /// The kernel's version: 6 and 12 of 6.12.30.
    #[must_use]
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut parts = self.kernel.split(|letter: char| !letter.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// Whether the process has a capability; `None` if that is not known.
    #[must_use]
    pub fn has(&self, capability: Capability) -> Option<bool> {
        self.capabilities.map(|mask| mask >> capability as u8 & 1 == 1)
    }

    /// The NUMA node of a CPU.
    #[must_use]
    pub fn node_of(&self, cpu: usize) -> Option<usize> {
        self.nodes.iter().find(|(_, cpus)| cpus.contains(&cpu)).map(|(&node, _)| node)
    }
}

impl HugePages {
    fn parse(meminfo: &str) -> Option<Self> {
        let number = |name| field(meminfo, name)?.split_whitespace().next()?.parse().ok();
        Some(Self {
            size_kib: number("Hugepagesize")?,
            total: number("HugePages_Total")?,
            free: number("HugePages_Free")?,
        })
    }
}

impl Limits {
    fn read() -> Self {
        Self {
            locked_bytes: getrlimit(Resource::Memlock).current,
            open_files: getrlimit(Resource::Nofile).maximum,
            real_time_priority: getrlimit(Resource::Rtprio).current,
        }
    }
}

impl Settings {
    fn read(root: &Root) -> Self {
        let ephemeral = |text: String| {
            let mut ports = text.split_whitespace().map(str::parse);
            Some(ports.next()?.ok()?..=ports.next()?.ok()?)
        };
        Self {
            unprivileged_bpf_disabled: root.number("proc/sys/kernel/unprivileged_bpf_disabled"),
            bpf_jit_enable: root.number("proc/sys/net/core/bpf_jit_enable"),
            io_uring_disabled: root.number("proc/sys/kernel/io_uring_disabled"),
            reserved_ports: root.text("proc/sys/net/ipv4/ip_local_reserved_ports").map(|text| ranges(&text)),
            ephemeral_ports: root.text("proc/sys/net/ipv4/ip_local_port_range").and_then(ephemeral),
            rmem_max: root.number("proc/sys/net/core/rmem_max"),
            netdev_budget: root.number("proc/sys/net/core/netdev_budget"),
            rt_runtime_us: root.number("proc/sys/kernel/sched_rt_runtime_us"),
        }
    }
}
