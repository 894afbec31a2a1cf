//! Kernel, privileges, limits, memory, ports.

use std::ops::RangeInclusive;

use engine::config::{DeviceKind, Want};
use signaling::telemetry::open_files_wanted;
use xdp::host::machine::Capability;

use super::report::{Check, Status};
use super::{Facts, ladder};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(facts), device(facts), capabilities(facts), ports(facts), open_files(facts)];
    checks.extend(locked_memory(facts));
    checks.extend(real_time(facts));
    checks.push(hugepages(facts));
    checks.push(bpf_jit(facts));
    checks.push(io_uring(facts));
    checks.push(receive_buffer(facts));
    checks.push(budget(facts));
    checks
}

fn kernel(facts: &Facts) -> Check {
    let why =
        "AF_XDP as it is used here needs Linux 5.10, io_uring 6.0; older ones carry media by kernel UDP";
    let machine = &facts.machine;
    let on = if machine.virtual_machine == Some(true) { " in a virtual machine" } else { "" };
    let status = match machine.kernel_version() {
        None => Status::Unknown,
        Some(version) if version < ladder::FOR_AF_XDP => Status::Warning,
        Some(_) => Status::Ok,
    };
    Check::new("kernel", why, status, format!("Linux {}{on}", machine.kernel))
        .note("install a kernel of your distribution that is 6.1 or later, and boot it")
}

fn device(facts: &Facts) -> Check {
    let why = "a device that is named, and not `auto`, must work or the engine does not start";
    let wanted = facts.engine.device;
    match ladder::refusal(facts, wanted) {
        Some(reason) => {
            Check::new("device", why, Status::Problem, format!("{wanted} cannot be used: {reason}"))
                .note("`--device auto` takes the best that can be had")
        }
        None => {
            let (taken, _) = ladder::choose(facts);
            let found =
                if wanted == taken { taken.to_string() } else { format!("{wanted}, which is {taken} here") };
            Check::new("device", why, Status::Ok, found)
        }
    }
}

fn capabilities(facts: &Facts) -> Check {
    let why = "AF_XDP and sk_lookup load BPF programs and open raw sockets; kernel UDP and io_uring need no privileges";
    let missing = facts.missing_for(DeviceKind::AfXdp);
    let (status, found) = match facts.machine.capabilities {
        None => (Status::Unknown, "cannot be read".to_owned()),
        Some(_) if missing.is_empty() => (Status::Ok, "all that AF_XDP and sk_lookup need".to_owned()),
        Some(_) => (Status::Warning, format!("this user lacks {}", missing.join(", "))),
    };
    Check::new("capabilities", why, status, found)
        .fix("setcap cap_bpf,cap_perfmon,cap_net_admin,cap_net_raw,cap_sys_nice,cap_ipc_lock+ep \"$(command -v sidetone)\"")
        .note("or AmbientCapabilities= in its systemd unit: deploy/systemd/sidetone.service")
        .for_bare_metal(!facts.wants_bpf())
}

fn ports(facts: &Facts) -> Check {
    let why = "a port that the kernel gave to another program is no longer there for a call";
    let media = &facts.engine.media_ports;
    let shown = format!("{}-{}", media.start(), media.end());
    let settings = &facts.machine.settings;
    let (Some(reserved), Some(ephemeral)) = (&settings.reserved_ports, &settings.ephemeral_ports) else {
        return Check::new(
            "ports",
            why,
            Status::Unknown,
            format!("{shown}; the kernel's own ports cannot be read"),
        );
    };
    let common = *media.start().max(ephemeral.start())..=*media.end().min(ephemeral.end());
    if common.is_empty() {
        return Check::new(
            "ports",
            why,
            Status::Ok,
            format!("{shown}, apart from those the kernel gives away"),
        );
    }
    if is_covered(&common, reserved) {
        return Check::new("ports", why, Status::Ok, format!("{shown}, reserved"));
    }
    let kept = reserved.iter().map(|range| format!("{}-{},", range.start(), range.end())).collect::<String>();
    let found =
        format!("{shown}, of which the kernel gives {}-{} to any program", common.start(), common.end());
    Check::new("ports", why, Status::Warning, found)
        .fix(format!("sysctl -w net.ipv4.ip_local_reserved_ports={kept}{shown}"))
}

/// Whether all of `range` is in one of `ranges` or in several that touch.
fn is_covered(range: &RangeInclusive<u16>, ranges: &[RangeInclusive<u16>]) -> bool {
    let mut next = u32::from(*range.start());
    let mut sorted: Vec<_> = ranges.iter().collect();
    sorted.sort_by_key(|range| *range.start());
    for part in sorted {
        if u32::from(*part.start()) <= next {
            next = next.max(u32::from(*part.end()) + 1);
        }
    }
    next > u32::from(*range.end())
}

fn open_files(facts: &Facts) -> Check {
    let why = "a call takes two sockets and an AI call one more, a relay takes four; sidetone raises the soft limit itself";
    let wanted = open_files_wanted(facts.max_calls);
    match facts.machine.limits.open_files {
        Some(limit) if limit < wanted => {
            let found = format!("{limit}, {wanted} for calls.max {}", facts.max_calls);
            // Still enough for a laptop.
            Check::new("open_files", why, Status::Warning, found)
                .fix(format!("ulimit -n {wanted}"))
                .for_bare_metal(!facts.is_server())
        }
        limit => Check::new(
            "open_files",
            why,
            Status::Ok,
            limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string()),
        ),
    }
}

fn locked_memory(facts: &Facts) -> Option<Check> {
    if facts.interface.is_none() && !facts.engine.lock_memory {
        return None;
    }
    let why = "AF_XDP frames count as locked memory (the device fails with ENOBUFS without it), and so does all of it with \
               media.lock_memory";
    let (status, found) = match facts.machine.limits.locked_bytes {
        _ if facts.machine.has(Capability::IpcLock) == Some(true) => {
            (Status::Ok, "any amount (CAP_IPC_LOCK)".to_owned())
        }
        None => (Status::Ok, "no limit".to_owned()),
        // Rings, besides frames.
        Some(bytes) if facts.interface.is_some() && bytes < facts.frame_bytes() + (8 << 20) => {
            // `auto` takes another device then.
            let named = facts.engine.device == DeviceKind::AfXdp;
            let status = if named { Status::Problem } else { Status::Warning };
            (status, format!("{} KiB, frames take {} KiB", bytes / 1024, facts.frame_bytes() / 1024))
        }
        Some(bytes) if facts.engine.lock_memory => {
            (Status::Warning, format!("{} KiB; media.lock_memory wants no limit", bytes / 1024))
        }
        Some(bytes) => (Status::Ok, format!("{} KiB", bytes / 1024)),
    };
    Some(
        Check::new("locked_memory", why, status, found)
            .fix("ulimit -l unlimited")
            .note("systemd: LimitMEMLOCK=infinity"),
    )
}

fn real_time(facts: &Facts) -> Vec<Check> {
    let Some(priority) = facts.engine.priority else { return Vec::new() };
    let machine = &facts.machine;
    let why = "media.priority is refused without it, and workers run at the ordinary priority";
    let allowed = machine.has(Capability::SysNice) == Some(true)
        || machine.limits.real_time_priority.is_none_or(|limit| limit >= u64::from(priority));
    let status = if allowed { Status::Ok } else { Status::Warning };
    let found = if allowed {
        format!("SCHED_FIFO {priority} is allowed")
    } else {
        format!("SCHED_FIFO {priority} is not allowed")
    };
    let mut checks = vec![Check::new("real_time", why, status, found).fix(format!("ulimit -r {priority}"))];
    if facts.is_busy() {
        let why = "real-time threads that never sleep are stopped for the rest of each period";
        let runtime = machine.settings.rt_runtime_us;
        let (status, found) = match runtime {
            Some(-1) => (Status::Ok, "not limited".to_owned()),
            Some(us) => (Status::Warning, format!("{us} us of each second (kernel.sched_rt_period_us)")),
            None => (Status::Unknown, "cannot be read".to_owned()),
        };
        checks.push(
            Check::new("real_time_share", why, status, found).fix("sysctl -w kernel.sched_rt_runtime_us=-1"),
        );
    }
    checks
}

fn hugepages(facts: &Facts) -> Check {
    let why = "AF_XDP frames in huge pages miss the TLB less";
    let want = facts.engine.af_xdp.hugepages;
    let Some(pages) = facts.machine.hugepages else {
        return Check::new("hugepages", why, Status::Unknown, "cannot be read").for_bare_metal(true);
    };
    // Each worker's frames begin a page.
    let per_worker = (facts.engine.af_xdp.frames as u64 * 2).div_ceil(pages.size_kib.max(1));
    let wanted = per_worker * facts.workers() as u64;
    let found = format!("{} free of {} KiB, frames take {wanted}", pages.free, pages.size_kib);
    let apart = facts.interface.is_none();
    let status = match want {
        Want::Never => {
            return Check::new("hugepages", why, Status::Ok, "not wanted (media.hugepages)")
                .for_bare_metal(apart);
        }
        _ if pages.free >= wanted => Status::Ok,
        Want::Auto => Status::Warning,
        Want::Require if apart => Status::Warning,
        Want::Require => Status::Problem,
    };
    Check::new("hugepages", why, status, found)
        .fix(format!("sysctl -w vm.nr_hugepages={}", pages.total + wanted.saturating_sub(pages.free)))
        .for_bare_metal(apart)
}

fn bpf_jit(facts: &Facts) -> Check {
    let why = "an XDP program that is interpreted costs several times as much per packet";
    let (status, found) = match facts.machine.settings.bpf_jit_enable {
        Some(0) => (Status::Warning, "off"),
        Some(_) => (Status::Ok, "on"),
        None => (Status::Unknown, "only root may see it"),
    };
    Check::new("bpf_jit", why, status, found)
        .fix("sysctl -w net.core.bpf_jit_enable=1")
        .for_bare_metal(!facts.wants_bpf())
}

fn io_uring(facts: &Facts) -> Check {
    let why = "io_uring is the best device without privileges";
    let (status, found) = match facts.machine.settings.io_uring_disabled {
        // Before 6.6 there is no such setting.
        None | Some(0) => (Status::Ok, "allowed"),
        Some(1) => (Status::Warning, "for members of kernel.io_uring_group only"),
        Some(_) => (Status::Warning, "forbidden"),
    };
    Check::new("io_uring", why, status, found)
        .fix("sysctl -w kernel.io_uring_disabled=0")
        .for_bare_metal(facts.engine.device != DeviceKind::IoUring)
}

fn receive_buffer(facts: &Facts) -> Check {
    let why = "the one socket of sk_lookup holds the packets of all calls until the worker comes";
    let (status, found) = match facts.machine.settings.rmem_max {
        Some(bytes) if bytes < 4 << 20 => {
            (Status::Warning, format!("at most {} KiB (net.core.rmem_max)", bytes >> 10))
        }
        Some(bytes) => (Status::Ok, format!("at most {} KiB (net.core.rmem_max)", bytes >> 10)),
        None => (Status::Unknown, "only shown in the host's own network namespace".to_owned()),
    };
    Check::new("receive_buffer", why, status, found)
        .fix("sysctl -w net.core.rmem_max=8388608")
        .for_bare_metal(facts.engine.device != DeviceKind::SkLookup)
}

fn budget(facts: &Facts) -> Check {
    let why = "packets that one round of receiving takes before others have their turn; too few lose packets in bursts";
    let (status, found) = match facts.machine.settings.netdev_budget {
        Some(budget) if budget < 300 => (Status::Warning, format!("{budget} (net.core.netdev_budget)")),
        Some(budget) => (Status::Ok, format!("{budget} (net.core.netdev_budget)")),
        None => (Status::Unknown, "only shown in the host's own network namespace".to_owned()),
    };
    Check::new("receive_round", why, status, found)
        .fix("sysctl -w net.core.netdev_budget=600")
        .for_bare_metal(!facts.is_server())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ranges_that_touch_cover_together() {
        assert!(is_covered(&(10..=20), &[16..=30, 5..=15]));
        assert!(!is_covered(&(10..=20), &[17..=30, 5..=15]));
        assert!(!is_covered(&(10..=20), &[]));
        assert!(is_covered(&(10..=u16::MAX), &[0..=u16::MAX]));
    }
}
