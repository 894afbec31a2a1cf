//! Which threads run on which CPUs: as configured, and where nothing is configured as the machine suggests.

use engine::config::{EngineConfig, WaitPolicy};
use xdp::host::Machine;

/// The CPUs of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placing {
    /// One pinned worker each; empty: not pinned.
    pub(crate) media: Vec<usize>,
    /// Everything else runs there; empty: anywhere.
    pub(crate) rest: Vec<usize>,
    /// What was chosen, in sentences.
    pub(crate) notes: Vec<String>,
    /// What could be better.
    pub(crate) warnings: Vec<String>,
}

/// Places the threads. `node` is the NUMA node of the network interface of media.
pub(crate) fn place(
    engine: &EngineConfig,
    signaling_cpus: &[usize],
    machine: &Machine,
    node: Option<usize>,
) -> Placing {
    let mut placing = Placing { media: engine.media_cpus.clone(), ..Placing::default() };
    if placing.media.is_empty() && engine.af_xdp.interface.is_some() {
        placing.choose_media(machine, node, &[&engine.stream_cpus[..], signaling_cpus].concat());
    }
    if placing.media.is_empty() {
        return placing;
    }
    if signaling_cpus.is_empty() {
        placing.choose_rest(machine);
    }
    let shown = list(&placing.media);
    let bare: Vec<usize> =
        placing.media.iter().copied().filter(|cpu| !machine.isolated.contains(cpu)).collect();
    if !bare.is_empty() {
        let sentence = format!(
            "no isolation of media CPU {}: other programs and the kernel may run there, too \
             (isolcpus=; see docs/tuning.md and `sidetone doctor`)",
            list(&bare)
        );
        let matters = engine.wait == WaitPolicy::Busy || engine.priority.is_some();
        if matters { &mut placing.warnings } else { &mut placing.notes }.push(sentence);
    }
    let shared: Vec<usize> =
        signaling_cpus.iter().copied().filter(|cpu| placing.media.contains(cpu)).collect();
    if !shared.is_empty() {
        let sentence =
            format!("signalling shares CPU {} with media, which will be late at times", list(&shared));
        placing.warnings.push(sentence);
    }
    if let Some(node) = node.filter(|_| machine.nodes.len() > 1) {
        let far: Vec<usize> =
            placing.media.iter().copied().filter(|&cpu| machine.node_of(cpu) != Some(node)).collect();
        if !far.is_empty() {
            placing.warnings.push(format!(
                "media CPU {} of {shown} not on NUMA node {node}, where the network interface is",
                list(&far)
            ));
        }
    }
    placing
}

impl Placing {
    /// Isolated CPUs of the interface's node; else, where there are several nodes, half of the cores of that one.
    fn choose_media(&mut self, machine: &Machine, node: Option<usize>, taken: &[usize]) {
        let near = |cpu: &usize| {
            machine.nodes.len() < 2 || node.is_none_or(|node| machine.node_of(*cpu) == Some(node))
        };
        let first_of_core =
            |cpu: &usize| machine.siblings.get(cpu).is_none_or(|same| same.first() == Some(cpu));
        let is_free = |cpu: &usize| near(cpu) && first_of_core(cpu) && !taken.contains(cpu);
        let isolated: Vec<usize> = machine.isolated.iter().copied().filter(is_free).collect();
        if !isolated.is_empty() {
            self.notes.push(format!("media workers take the isolated CPU {}", list(&isolated)));
            self.media = isolated;
        } else if let Some(node) = node.filter(|_| machine.nodes.len() > 1) {
            let cores: Vec<usize> = machine.allowed.iter().copied().filter(is_free).collect();
            self.media = cores[cores.len() - cores.len() / 2..].to_vec();
            if !self.media.is_empty() {
                self.notes.push(format!(
                    "media workers take CPU {} on NUMA node {node}, where the network interface is",
                    list(&self.media)
                ));
            }
        }
    }

    /// All CPUs that no worker has, without those that share a worker's core if others are left.
    fn choose_rest(&mut self, machine: &Machine) {
        let others: Vec<usize> =
            machine.allowed.iter().copied().filter(|cpu| !self.media.contains(cpu)).collect();
        let apart: Vec<usize> = others
            .iter()
            .copied()
            .filter(|cpu| {
                let same = machine.siblings.get(cpu);
                !same.is_some_and(|same| same.iter().any(|other| self.media.contains(other)))
            })
            .collect();
        self.rest = if apart.is_empty() { others } else { apart };
        if self.rest.is_empty() {
            self.warnings.push("every CPU has a media worker: signalling runs beside them".to_owned());
        } else {
            self.notes.push(format!("signalling and AI streams run on CPU {}", list(&self.rest)));
        }
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use engine::config::AfXdpConfig;

    use super::*;

    /// Two nodes of four cores with two threads each: CPU n and n + 8 share a core.
    fn two_nodes() -> Machine {
        Machine {
            cpus: (0..16).collect(),
            allowed: (0..16).collect(),
            nodes: [(0, vec![0, 1, 2, 3, 8, 9, 10, 11]), (1, vec![4, 5, 6, 7, 12, 13, 14, 15])].into(),
            siblings: (0..16).map(|cpu| (cpu, vec![cpu % 8, cpu % 8 + 8])).collect(),
            ..Machine::default()
        }
    }

    fn on_interface() -> EngineConfig {
        let af_xdp = AfXdpConfig { interface: Some("eth0".into()), ..AfXdpConfig::default() };
        EngineConfig { af_xdp, ..EngineConfig::default() }
    }

    #[test]
    fn without_an_interface_or_cpus_nothing_is_placed() {
        assert_eq!(place(&EngineConfig::default(), &[], &two_nodes(), None), Placing::default());
        let laptop = Machine { allowed: vec![0, 1], ..Machine::default() };
        assert_eq!(place(&on_interface(), &[], &laptop, None), Placing::default());
    }

    #[test]
    fn workers_go_to_the_node_of_the_interface_and_the_rest_elsewhere() {
        let placing = place(&on_interface(), &[], &two_nodes(), Some(1));
        assert_eq!(placing.media, [6, 7]);
        assert_eq!(placing.rest, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
        assert!(placing.notes[0].contains("CPU 6, 7 on NUMA node 1"), "{:?}", placing.notes);
        assert!(placing.warnings.is_empty(), "{:?}", placing.warnings);
    }

    #[test]
    fn isolated_cpus_come_first_one_thread_of_each_core() {
        let machine = Machine { isolated: vec![2, 3, 6, 10, 11], allowed: vec![0, 1, 4, 5], ..two_nodes() };
        let placing = place(&on_interface(), &[], &machine, Some(0));
        assert_eq!(placing.media, [2, 3]);
        assert_eq!(placing.rest, [0, 1, 4, 5]);
        assert!(placing.warnings.is_empty() && placing.notes.iter().all(|note| !note.contains("isolation")));
    }

    #[test]
    fn what_is_named_is_taken_and_what_could_be_better_is_said() {
        let config = EngineConfig { media_cpus: vec![1, 5], wait: WaitPolicy::Busy, ..on_interface() };
        let placing = place(&config, &[0, 1], &two_nodes(), Some(0));
        assert_eq!((&placing.media[..], &placing.rest[..]), (&[1, 5][..], &[][..]));
        let said = placing.warnings.join("\n");
        for words in
            ["no isolation of media CPU 1, 5", "shares CPU 1 with media", "CPU 5 of 1, 5 not on NUMA node 0"]
        {
            assert!(said.contains(words), "{words} is missing in {said}");
        }
        let all = EngineConfig { media_cpus: (0..16).collect(), ..EngineConfig::default() };
        let placing = place(&all, &[], &two_nodes(), None);
        assert!(placing.rest.is_empty() && placing.warnings[0].contains("every CPU has a media worker"));
    }
}
