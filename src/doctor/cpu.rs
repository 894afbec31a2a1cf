//! CPUs and clocks.

use super::report::{Check, Status};
use super::{Facts, numbers};

pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![media_cpus(facts)];
    checks.extend(sharing(facts));
    checks.push(isolation(facts));
    checks.push(tickless(facts));
    checks.extend(siblings(facts));
    checks.extend(governor(facts));
    checks.push(clock(facts));
    checks
}

fn media_cpus(facts: &Facts) -> Check {
    let why = "a worker with a CPU of its own meets its deadlines whatever else runs";
    let machine = &facts.machine;
    let media = &facts.engine.media_cpus;
    if media.is_empty() {
        let found = format!("not pinned: {} workers on {} CPUs", facts.workers(), machine.allowed.len());
        let last = machine.allowed.iter().skip(1).copied().collect::<Vec<_>>();
        return Check::new("media_cpus", why, Status::Warning, found)
            .note(format!(
                "pin them, such as by --media-cpus {}",
                if last.is_empty() { "0".to_owned() } else { numbers(&last) }
            ))
            .for_bare_metal(true);
    }
    let named = facts.engine.stream_cpus.iter().chain(&facts.signaling_cpus).chain(media);
    let missing: Vec<usize> = named.copied().filter(|cpu| !may_use(facts, *cpu)).collect();
    if missing.is_empty() {
        return Check::new("media_cpus", why, Status::Ok, format!("CPU {}", numbers(media)));
    }
    let found = format!("CPU {} does not exist or this process may not use it", numbers(&missing));
    Check::new("media_cpus", why, Status::Problem, found)
        .note(format!("name some of {} with --media-cpus, or widen the cpuset", numbers(&machine.allowed)))
}

/// Isolated CPUs are not among those that a process begins with, but it may go there.
fn may_use(facts: &Facts, cpu: usize) -> bool {
    let machine = &facts.machine;
    machine.allowed.contains(&cpu) || machine.isolated.contains(&cpu) && machine.cpus.contains(&cpu)
}

fn sharing(facts: &Facts) -> Option<Check> {
    let why = "what else runs on a media CPU makes media late";
    let media = &facts.engine.media_cpus;
    if media.is_empty() {
        return None;
    }
    let others: Vec<usize> =
        facts.machine.allowed.iter().copied().filter(|cpu| !media.contains(cpu)).collect();
    let fix = |list: &[usize]| {
        format!("name other CPUs: --signaling-cpus {} --stream-cpus {}", numbers(list), numbers(list))
    };
    let shared: Vec<usize> = facts
        .signaling_cpus
        .iter()
        .chain(&facts.engine.stream_cpus)
        .copied()
        .filter(|cpu| media.contains(cpu))
        .collect();
    let check = |status, found: String| Some(Check::new("cpu_sharing", why, status, found));
    if others.is_empty() {
        let found = "all CPUs are media CPUs: signalling and AI streams run there, too".to_owned();
        return check(Status::Warning, found).map(|check| check.note("name fewer CPUs with --media-cpus"));
    }
    if !shared.is_empty() {
        let found = format!("CPU {} also for signalling or AI streams", numbers(&shared));
        return check(Status::Warning, found).map(|check| check.note(fix(&others)));
    }
    check(Status::Ok, format!("signalling and AI streams have CPU {}", numbers(&others)))
}

fn isolation(facts: &Facts) -> Check {
    let why = "on an isolated CPU the scheduler puts nothing beside the worker";
    let machine = &facts.machine;
    let media = &facts.engine.media_cpus;
    let bare: Vec<usize> = media.iter().copied().filter(|cpu| !machine.isolated.contains(cpu)).collect();
    let apart = !facts.is_pinned();
    if !apart && bare.is_empty() {
        return Check::new("isolation", why, Status::Ok, format!("CPU {} isolated", numbers(media)));
    }
    let found = if machine.isolated.is_empty() {
        "no CPU is isolated".to_owned()
    } else {
        format!("isolated is CPU {}", numbers(&machine.isolated))
    };
    let wanted = if apart { "MEDIA-CPUS".to_owned() } else { numbers(media) };
    Check::new("isolation", why, Status::Warning, found)
        .note(format!("add isolcpus=managed_irq,domain,{wanted} to the kernel command line and boot"))
        // Nothing that a running system can change, and media works without.
        .for_bare_metal(apart || !facts.is_busy())
}

fn tickless(facts: &Facts) -> Check {
    let why = "a CPU with one busy thread needs no timer tick; each costs some microseconds at a bad moment";
    let media = &facts.engine.media_cpus;
    let apart = !facts.is_pinned();
    let all = !apart && media.iter().all(|cpu| facts.machine.tickless.contains(cpu));
    if all {
        return Check::new("tickless", why, Status::Ok, format!("CPU {}", numbers(media)));
    }
    let found = match &*facts.machine.tickless {
        [] => "no CPU".to_owned(),
        cpus => format!("CPU {}", numbers(cpus)),
    };
    let wanted = if apart { "MEDIA-CPUS".to_owned() } else { numbers(media) };
    Check::new("tickless", why, Status::Warning, found)
        .note(format!("add nohz_full={wanted} rcu_nocbs={wanted} to the kernel command line and boot"))
        .for_bare_metal(true)
}

fn siblings(facts: &Facts) -> Option<Check> {
    let why = "two threads of one core share its units: a worker gets half of it, and not when it needs it";
    let media = &facts.engine.media_cpus;
    let machine = &facts.machine;
    let shared: Vec<usize> = media
        .iter()
        .copied()
        .filter(|cpu| {
            machine
                .siblings
                .get(cpu)
                .is_some_and(|same| same.iter().any(|other| other != cpu && media.contains(other)))
        })
        .collect();
    if media.is_empty() || machine.siblings.values().all(|same| same.len() < 2) {
        return None;
    }
    if shared.is_empty() {
        let idle: Vec<usize> = media
            .iter()
            .flat_map(|cpu| {
                machine.siblings.get(cpu).into_iter().flatten().copied().filter(move |other| other != cpu)
            })
            .collect();
        let found = format!("one worker per core; leave CPU {} idle", numbers(&idle));
        return Some(Check::new("siblings", why, Status::Ok, found));
    }
    let cores: Vec<usize> = machine
        .siblings
        .iter()
        .filter(|(cpu, same)| same.first() == Some(cpu))
        .map(|(&cpu, _)| cpu)
        .collect();
    let found = format!("media CPU {} share cores", numbers(&shared));
    Some(
        Check::new("siblings", why, Status::Warning, found)
            .note(format!("name only some of {} with --media-cpus", numbers(&cores))),
    )
}

fn governor(facts: &Facts) -> Option<Check> {
    let why = "a CPU that must speed up first is late for the first packets of a burst";
    let machine = &facts.machine;
    let media = &facts.engine.media_cpus;
    let slow: Vec<String> = machine
        .governors
        .iter()
        .filter(|(cpu, governor)| (media.is_empty() || media.contains(cpu)) && *governor != "performance")
        .map(|(cpu, governor)| format!("{governor} on CPU {cpu}"))
        .collect();
    // A virtual machine has none: the host decides.
    let any = machine.governors.values().next()?;
    let apart = !facts.is_pinned();
    Some(match &*slow {
        [] => Check::new("governor", why, Status::Ok, any.clone()).for_bare_metal(apart),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Check::new("governor", why, Status::Warning, format!("{first}{more}"))
                .fix("cpupower frequency-set -g performance")
                .for_bare_metal(apart)
        }
    })
}

fn clock(facts: &Facts) -> Check {
    let why = "a worker reads the clock each turn; a clock source that needs the kernel costs 20 to 1,000 times as much";
    let (status, found) = match facts.machine.clock_source.as_deref() {
        None => (Status::Unknown, "cannot be read"),
        Some(fast @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page")) => {
            (Status::Ok, fast)
        }
        Some(slow) => (Status::Warning, slow),
    };
    Check::new("clock", why, status, found)
        .fix("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
        .note("if that fails, the kernel found it unstable: tsc=reliable on its command line")
}
