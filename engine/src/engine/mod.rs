//! The control side: starts workers, hands out ports and slots, carries commands there and events back.

mod devices;
mod error;
mod placement;
mod ports;
mod slots;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use xdp::af_xdp::Interface;
use xdp::{Device, DeviceCounters, Doorbell};

use self::devices::Opened;
use self::placement::Placement;
use self::ports::PortPool;
use self::slots::Slots;
use crate::command::{Command, RelayId, StreamId};
use crate::config::{DeviceKind, EngineConfig, InbandDtmf};
use crate::event::Event;
use crate::relay::{Relay, RelayOptions, Side};
use crate::stream::{Stream, StreamOptions};
use crate::time::Duration;
use crate::worker::{self, Worker, WorkerCounters};

pub use self::error::{AddRelayError, AddStreamError, CommandRingFull, StartError};
pub use self::placement::PortCounters;

/// The running media engine. Every method may be called from any thread; none waits for a worker but
/// [`Engine::shutdown`].
#[derive(Debug)]
pub struct Engine {
    control: Arc<Mutex<Control>>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    silent_peer_limit: Duration,
    inband_dtmf: InbandDtmf,
    device: DeviceChoice,
    interface: Option<Interface>,
    warnings: Vec<String>,
}

/// What the workers report. One consumer polls it.
#[derive(Debug)]
pub struct EngineEvents {
    control: Arc<Mutex<Control>>,
    rings: Vec<Consumer<Event>>,
    /// The ring to look at first, so that no worker starves another.
    next: usize,
    doorbell: Doorbell,
}

/// Which device the workers have started on, and why none of the better ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChoice {
    /// [`Device::name`] of the one taken.
    pub name: &'static str,
    /// How it reaches its interface, and why not in a better way: a sentence, if it has one.
    pub taken: Option<String>,
    /// The better devices and the reason that each was refused, best first.
    pub refused: Vec<(DeviceKind, String)>,
    /// How ports are chosen for calls, and why not better.
    pub ports: String,
}

#[derive(Debug)]
struct Control {
    workers: Vec<WorkerControl>,
    placement: Placement,
}

#[derive(Debug)]
struct WorkerControl {
    commands: Producer<Command>,
    doorbell: Doorbell,
    ports: PortPool,
    /// With the RTP port of each stream.
    streams: Slots<u16>,
    /// With the RTP ports of each relay.
    relays: Slots<[u16; 2]>,
    counters: Arc<WorkerCounters>,
    device_counters: Arc<DeviceCounters>,
}

impl Engine {
    /// Starts the workers without AI streams.
    ///
    /// # Errors
    /// See [`StartError`]; workers that did start are stopped again.
    pub fn start(config: EngineConfig) -> Result<(Self, EngineEvents), StartError> {
        Self::start_with(config, Vec::new())
    }

    /// Starts the workers. `ai_doorbells` wakes the AI stream threads, by the index that
    /// [`crate::ai::AiPort::thread`] names.
    ///
    /// # Errors
    /// See [`StartError`]; workers that did start are stopped again.
    pub fn start_with(
        config: EngineConfig,
        ai_doorbells: Vec<Doorbell>,
    ) -> Result<(Self, EngineEvents), StartError> {
        check(&config)?;
        let Opened { devices, refused, interface } = devices::open(&config, config.workers())?;
        let (mut engine, events) = Self::start_on(config, devices, ai_doorbells)?;
        engine.device.refused = refused;
        engine.device.taken = interface.as_ref().map(|interface| interface.taken().to_string());
        engine.interface = interface;
        Ok((engine, events))
    }

    /// Starts one worker on each of `devices`, whatever `config.device` says: for devices around
    /// devices (capture, loss, delay) and in-memory networks.
    ///
    /// # Errors
    /// See [`StartError`]; workers that did start are stopped again.
    pub fn start_on(
        config: EngineConfig,
        devices: Vec<Box<dyn Device>>,
        ai_doorbells: Vec<Doorbell>,
    ) -> Result<(Self, EngineEvents), StartError> {
        check(&config)?;
        let too_few_ports = || StartError::TooFewPorts {
            first: *config.media_ports.start(),
            last: *config.media_ports.end(),
            workers: devices.len(),
        };
        let start = getrandom::u64().unwrap_or_default();
        let pools = PortPool::split(&config.media_ports, devices.len(), start).ok_or_else(too_few_ports)?;
        let name = devices.first().map_or("none", |device| device.name());
        // Another device has no queues of its own.
        let placement = if name.starts_with(DeviceKind::AfXdp.name()) {
            Placement::on_interface(&config, &pools)
        } else {
            Placement::in_turn(format!("{name} owns no queues"))
        };
        let doorbell = Doorbell::new().map_err(StartError::Doorbell)?;
        let ports = placement.description.clone();
        let control = Arc::new(Mutex::new(Control { workers: Vec::new(), placement }));
        // Dropped on an early return, it stops the workers that did start.
        let mut engine = Self {
            warnings: if config.lock_memory {
                worker::lock_memory().into_iter().collect()
            } else {
                Vec::new()
            },
            control: Arc::clone(&control),
            stop: Arc::default(),
            threads: Mutex::default(),
            silent_peer_limit: config.silent_peer_limit,
            inband_dtmf: config.inband_dtmf,
            device: DeviceChoice { name, taken: None, refused: Vec::new(), ports },
            interface: None,
        };
        let ai_doorbells: Arc<[Doorbell]> = ai_doorbells.into();
        let mut rings = Vec::new();
        for (index, (device, ports)) in devices.into_iter().zip(pools).enumerate() {
            let (command_producer, commands) = RingBuffer::new(config.command_ring);
            let (events, event_consumer) = RingBuffer::new(config.event_ring);
            let counters = Arc::<WorkerCounters>::default();
            lock(&control).workers.push(WorkerControl {
                commands: command_producer,
                doorbell: device.doorbell(),
                ports,
                streams: Slots::new(config.streams_per_worker),
                relays: Slots::new(config.relays_per_worker),
                counters: Arc::clone(&counters),
                device_counters: device.counters(),
            });
            let worker = Worker::new(worker::Parts {
                device,
                commands,
                events,
                event_doorbell: doorbell.clone(),
                ai_doorbells: Arc::clone(&ai_doorbells),
                counters,
                stop: Arc::clone(&engine.stop),
                streams: config.streams_per_worker,
                relays: config.relays_per_worker,
                kernel_relay: config.kernel_relay,
                receive_budget: config.receive_budget,
                wait: config.wait,
                tick: config.tick,
            });
            let seat = worker::Seat { cpu: config.media_cpus.get(index).copied(), priority: config.priority };
            let (thread, warning) = worker::spawn(index, seat, worker)?;
            // Refused to one, it is refused to all.
            if index == 0 {
                engine.warnings.extend(warning);
            }
            engine.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            rings.push(event_consumer);
        }
        Ok((engine, EngineEvents { control, rings, next: 0, doorbell }))
    }

    /// The options that streams of this engine are to be made with.
    #[must_use]
    pub fn stream_options(&self) -> StreamOptions {
        StreamOptions {
            silent_peer_limit: self.silent_peer_limit,
            inband_dtmf: self.inband_dtmf,
            ..StreamOptions::default()
        }
    }

    /// The options that relays of this engine are to be made with.
    #[must_use]
    pub fn relay_options(&self) -> RelayOptions {
        RelayOptions { silent_peer_limit: self.silent_peer_limit }
    }

    /// Gives a stream to the worker with the fewest streams and relays: picks the slot and an even port for RTP
    /// (RTCP is on the next one unless it is multiplexed) on `local_ip`. The stream is live when
    /// [`Event::StreamAdded`] comes; [`Event::StreamFailed`] gives it back.
    ///
    /// # Errors
    /// See [`AddStreamError`]; the stream comes back.
    pub fn add_stream(
        &self,
        local_ip: IpAddr,
        stream: Box<Stream>,
    ) -> Result<(StreamId, SocketAddr), AddStreamError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(AddStreamError::ShutDown(stream));
        }
        let mut control = lock(&self.control);
        let Control { workers, placement } = &mut *control;
        let Some((index, worker)) = least_loaded(workers, 1, |worker| worker.streams.is_full()) else {
            return Err(if workers.iter().all(|worker| worker.streams.is_full()) {
                AddStreamError::NoSlot(stream)
            } else if workers.iter().all(|worker| worker.ports.free() == 0) {
                AddStreamError::NoPort(stream)
            } else {
                AddStreamError::CommandRingFull(stream)
            });
        };
        let port = placement.take(&mut worker.ports, index, local_ip, stream.remote_rtp());
        let Some((port, (slot, generation))) = port.and_then(|port| Some((port, worker.streams.take(port)?)))
        else {
            unreachable!("a usable worker has a port and a slot");
        };
        let id = StreamId { worker: index, slot, generation };
        let local = SocketAddr::new(local_ip, port);
        worker.push(Command::AddStream { id, local, stream });
        Ok((id, local))
    }

    /// Gives a relay to the worker with the fewest streams and relays: picks the slot and, of the same worker, an
    /// even port for RTP of each side (RTCP is on the next one unless it is multiplexed) on `local_ips`, by
    /// [`crate::relay::Side::index`]. The relay is live when [`Event::RelayAdded`] comes; [`Event::RelayFailed`]
    /// gives it back.
    ///
    /// # Errors
    /// See [`AddRelayError`]; the relay comes back.
    pub fn add_relay(
        &self,
        local_ips: [IpAddr; 2],
        relay: Box<Relay>,
    ) -> Result<(RelayId, [SocketAddr; 2]), AddRelayError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(AddRelayError::ShutDown(relay));
        }
        let mut control = lock(&self.control);
        let Control { workers, placement } = &mut *control;
        let Some((index, worker)) = least_loaded(workers, 2, |worker| worker.relays.is_full()) else {
            return Err(if workers.iter().all(|worker| worker.relays.is_full()) {
                AddRelayError::NoSlot(relay)
            } else if workers.iter().all(|worker| worker.ports.free() < 2) {
                AddRelayError::NoPort(relay)
            } else {
                AddRelayError::CommandRingFull(relay)
            });
        };
        let mut take = |side: Side| {
            let local_ip = local_ips[side.index()];
            placement.take(&mut worker.ports, index, local_ip, relay.remote_rtp(side))
        };
        let (Some(first), Some(second)) = (take(Side::A), take(Side::B)) else {
            unreachable!("a usable worker has two ports");
        };
        let Some((slot, generation)) = worker.relays.take([first, second]) else {
            unreachable!("a usable worker has a slot");
        };
        let id = RelayId { worker: index, slot, generation };
        let locals = [SocketAddr::new(local_ips[0], first), SocketAddr::new(local_ips[1], second)];
        worker.push(Command::AddRelay { id, locals, relay });
        Ok((id, locals))
    }

    /// Sends a command to the worker that its id names. A worker ignores and counts commands for streams and
    /// relays that it no longer has.
    ///
    /// # Errors
    /// [`CommandRingFull`] gives the command back, always so [`Command::AddStream`] and [`Command::AddRelay`],
    /// because only [`Engine::add_stream`] and [`Engine::add_relay`] know the free slots.
    pub fn send(&self, command: Command) -> Result<(), CommandRingFull> {
        let Some(index) = command.worker() else {
            self.stop();
            return Ok(());
        };
        if matches!(command, Command::AddStream { .. } | Command::AddRelay { .. }) {
            return Err(CommandRingFull(Box::new(command)));
        }
        let mut control = lock(&self.control);
        // An id that no worker gave out goes to the first one, which counts it as unknown.
        let index = if usize::from(index) < control.workers.len() { usize::from(index) } else { 0 };
        let Some(worker) = control.workers.get_mut(index) else {
            return Err(CommandRingFull(Box::new(command)));
        };
        let result = worker.commands.push(command);
        worker.doorbell.ring();
        result.map_err(|PushError::Full(command)| CommandRingFull(Box::new(command)))
    }

    /// Ends all streams (RTCP BYE is sent, the events come as for [`Command::RemoveStream`]) and all workers,
    /// and waits for them. [`EngineEvents`] still has their last events. Does nothing the second time.
    pub fn shutdown(&self) {
        self.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker catches its streams' panics; one of its own has been printed by its hook.
            let _ = thread.join();
        }
        lock(&self.control).placement.end();
        if let Some(interface) = &self.interface {
            // The kernel has taken the program off if the interface is gone.
            let _ = interface.detach();
        }
    }

    /// How many streams each worker has, counting those being added or removed.
    #[must_use]
    pub fn streams(&self) -> Vec<usize> {
        lock(&self.control).workers.iter().map(|worker| worker.streams.taken()).collect()
    }

    /// How many relays each worker has, counting those being added or removed.
    #[must_use]
    pub fn relays(&self) -> Vec<usize> {
        lock(&self.control).workers.iter().map(|worker| worker.relays.taken()).collect()
    }

    /// The counters of each worker.
    #[must_use]
    pub fn worker_counters(&self) -> Vec<Arc<WorkerCounters>> {
        lock(&self.control).workers.iter().map(|worker| Arc::clone(&worker.counters)).collect()
    }

    /// The counters of each worker's device.
    #[must_use]
    pub fn device_counters(&self) -> Vec<Arc<DeviceCounters>> {
        lock(&self.control).workers.iter().map(|worker| Arc::clone(&worker.device_counters)).collect()
    }

    /// Which device the workers have started on, and why none of the better ones.
    #[must_use]
    pub fn device(&self) -> &DeviceChoice {
        &self.device
    }

    /// The device that each worker uses at this moment: another than at the start if that has lost its interface or
    /// its program.
    #[must_use]
    pub fn devices_in_use(&self) -> Vec<&'static str> {
        let workers = lock(&self.control).workers.len();
        let name = |worker| self.interface.as_ref().and_then(|interface| interface.device_name(worker));
        (0..workers).map(|worker| name(worker).unwrap_or(self.device.name)).collect()
    }

    /// The interface that the devices share, if they are AF_XDP's and the engine has opened them.
    #[must_use]
    pub fn interface(&self) -> Option<&Interface> {
        self.interface.as_ref()
    }

    /// How the ports of calls were chosen.
    #[must_use]
    pub fn port_counters(&self) -> Arc<PortCounters> {
        lock(&self.control).placement.counters()
    }

    /// What was configured and could not be had, and what to do about it, in sentences for a log.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        for worker in &lock(&self.control).workers {
            worker.doorbell.ring();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl EngineEvents {
    /// The next event of any worker, or `None` for now. Frees the slot and the ports of what has ended.
    pub fn poll(&mut self) -> Option<Event> {
        for turn in 0..self.rings.len() {
            let index = (self.next + turn) % self.rings.len();
            let Ok(event) = self.rings[index].pop() else { continue };
            self.next = index + 1;
            match event {
                Event::StreamRemoved { id, .. }
                | Event::StreamFailed { id, .. }
                | Event::StreamPanicked { id } => lock(&self.control).release_stream(id),
                Event::RelayRemoved { id, .. }
                | Event::RelayFailed { id, .. }
                | Event::RelayPanicked { id } => lock(&self.control).release_relay(id),
                _ => {}
            }
            return Some(event);
        }
        None
    }

    /// Rings when there may be something to poll: [`Doorbell::hear`] it first, then poll until `None`.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }
}

impl Control {
    fn release_stream(&mut self, id: StreamId) {
        let Some(worker) = self.workers.get_mut(usize::from(id.worker)) else { return };
        if let Some(port) = worker.streams.release(id.slot, id.generation) {
            worker.ports.put_back(port);
        }
    }

    fn release_relay(&mut self, id: RelayId) {
        let Some(worker) = self.workers.get_mut(usize::from(id.worker)) else { return };
        for port in worker.relays.release(id.slot, id.generation).into_iter().flatten() {
            worker.ports.put_back(port);
        }
    }
}

impl WorkerControl {
    /// Hands over a command where the ring is known to have room.
    fn push(&mut self, command: Command) {
        let pushed = self.commands.push(command);
        debug_assert!(pushed.is_ok(), "a usable worker's ring has room");
        self.doorbell.ring();
    }
}

/// The worker with the least to do that has room for a command, so many free port pairs and a slot.
fn least_loaded(
    workers: &mut [WorkerControl],
    port_pairs: usize,
    is_full: impl Fn(&WorkerControl) -> bool,
) -> Option<(u16, &mut WorkerControl)> {
    let is_usable = |worker: &WorkerControl| {
        !worker.commands.is_full() && worker.ports.free() >= port_pairs && !is_full(worker)
    };
    let usable = workers.iter_mut().enumerate().filter(|(_, worker)| is_usable(worker));
    usable
        .min_by_key(|(_, worker)| worker.streams.taken() + worker.relays.taken())
        .map(|(index, worker)| (index as u16, worker))
}

/// Taking a lock whose holder panicked: every change under it is a single assignment or push.
fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Longer than this a packet of 20 ms would miss its turn.
const LONGEST_TICK: Duration = Duration::from_millis(10);

fn check(config: &EngineConfig) -> Result<(), StartError> {
    let cpus = &config.media_cpus;
    let twice = (1..cpus.len()).find(|&index| cpus[..index].contains(&cpus[index]));
    if let Some(index) = twice {
        return Err(StartError::SharedCpu { cpu: cpus[index] });
    }
    let limits = [
        ("streams_per_worker", config.streams_per_worker, 1 << 20),
        ("relays_per_worker", config.relays_per_worker, 1 << 20),
        ("command_ring", config.command_ring, 1 << 20),
        ("event_ring", config.event_ring, 1 << 20),
        ("receive_budget", config.receive_budget, 1 << 16),
    ];
    if config.tick > LONGEST_TICK {
        let most = LONGEST_TICK.as_millis() as usize;
        return Err(StartError::OutOfRange { name: "tick", least: 0, most });
    }
    for (name, value, most) in limits {
        if !(1..=most).contains(&value) {
            return Err(StartError::OutOfRange { name, least: 1, most });
        }
    }
    Ok(())
}
