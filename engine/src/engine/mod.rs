//! The control side: starts workers, hands out ports and slots, carries commands there and events back.

mod devices;
mod error;
mod ports;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer, PushError, RingBuffer};
use xdp::{Device, DeviceCounters, Doorbell};

use self::ports::PortPool;
use crate::command::{Command, StreamId};
use crate::config::{DeviceKind, EngineConfig, InbandDtmf};
use crate::event::Event;
use crate::stream::{Stream, StreamOptions};
use crate::time::Duration;
use crate::worker::{self, Worker, WorkerCounters};

pub use self::error::{AddStreamError, CommandRingFull, StartError};

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

/// Which device the workers run on, and why none of the better ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChoice {
    /// [`Device::name`] of the one taken.
    pub name: &'static str,
    /// The better devices and the reason that each was refused, best first.
    pub refused: Vec<(DeviceKind, String)>,
}

#[derive(Debug)]
struct Control {
    workers: Vec<WorkerControl>,
}

#[derive(Debug)]
struct WorkerControl {
    commands: Producer<Command>,
    doorbell: Doorbell,
    ports: PortPool,
    slots: Vec<Slot>,
    /// Free slots, the one that was free for longest last.
    free_slots: Vec<u32>,
    counters: Arc<WorkerCounters>,
    device_counters: Arc<DeviceCounters>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    /// The RTP port while a stream has the slot.
    port: Option<u16>,
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
        let (devices, refused) = devices::open(&config, config.workers())?;
        let (mut engine, events) = Self::start_on(config, devices, ai_doorbells)?;
        engine.device.refused = refused;
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
        let doorbell = Doorbell::new().map_err(StartError::Doorbell)?;
        let control = Arc::new(Mutex::new(Control { workers: Vec::new() }));
        // Dropped on an early return, it stops the workers that did start.
        let engine = Self {
            control: Arc::clone(&control),
            stop: Arc::default(),
            threads: Mutex::default(),
            silent_peer_limit: config.silent_peer_limit,
            inband_dtmf: config.inband_dtmf,
            device: DeviceChoice {
                name: devices.first().map_or("none", |device| device.name()),
                refused: Vec::new(),
            },
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
                slots: vec![Slot::default(); config.streams_per_worker],
                free_slots: (0..config.streams_per_worker as u32).rev().collect(),
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
                receive_budget: config.receive_budget,
                wait: config.wait,
            });
            let thread = worker::spawn(index, config.media_cpus.get(index).copied(), worker)?;
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

    /// Gives a stream to the worker with the fewest streams: picks the slot and an even port for RTP
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
        let usable = |worker: &WorkerControl| {
            !worker.commands.is_full() && !worker.ports.is_empty() && !worker.free_slots.is_empty()
        };
        let least_loaded = control
            .workers
            .iter_mut()
            .enumerate()
            .filter(|(_, worker)| usable(worker))
            .min_by_key(|(_, worker)| worker.streams());
        let Some((index, worker)) = least_loaded else {
            let workers = &control.workers;
            return Err(if workers.iter().all(|worker| worker.free_slots.is_empty()) {
                AddStreamError::NoSlot(stream)
            } else if workers.iter().all(|worker| worker.ports.is_empty()) {
                AddStreamError::NoPort(stream)
            } else {
                AddStreamError::CommandRingFull(stream)
            });
        };
        let (Some(port), Some(slot)) = (worker.ports.take(), worker.free_slots.pop()) else {
            unreachable!("a usable worker has a port and a slot");
        };
        let entry = &mut worker.slots[slot as usize];
        entry.port = Some(port);
        let id = StreamId { worker: index as u16, slot, generation: entry.generation };
        let local = SocketAddr::new(local_ip, port);
        let pushed = worker.commands.push(Command::AddStream { id, local, stream });
        debug_assert!(pushed.is_ok(), "a usable worker's ring has room");
        worker.doorbell.ring();
        Ok((id, local))
    }

    /// Sends a command to the worker that its [`StreamId`] names. A worker ignores and counts commands for
    /// streams that it no longer has.
    ///
    /// # Errors
    /// [`CommandRingFull`] gives the command back, always so [`Command::AddStream`], because only
    /// [`Engine::add_stream`] knows the free slots.
    pub fn send(&self, command: Command) -> Result<(), CommandRingFull> {
        let Some(id) = command.stream() else {
            self.stop();
            return Ok(());
        };
        if matches!(command, Command::AddStream { .. }) {
            return Err(CommandRingFull(Box::new(command)));
        }
        let mut control = lock(&self.control);
        // An id that no worker gave out goes to the first one, which counts it as unknown.
        let index = if usize::from(id.worker) < control.workers.len() { usize::from(id.worker) } else { 0 };
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
    }

    /// How many streams each worker has, counting those being added or removed.
    #[must_use]
    pub fn streams(&self) -> Vec<usize> {
        lock(&self.control).workers.iter().map(WorkerControl::streams).collect()
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

    /// Which device the workers run on, and why none of the better ones.
    #[must_use]
    pub fn device(&self) -> &DeviceChoice {
        &self.device
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
    /// The next event of any worker, or `None` for now. Frees the slot and the ports of a stream that ended.
    pub fn poll(&mut self) -> Option<Event> {
        for turn in 0..self.rings.len() {
            let index = (self.next + turn) % self.rings.len();
            let Ok(event) = self.rings[index].pop() else { continue };
            self.next = index + 1;
            if let Event::StreamRemoved { id, .. }
            | Event::StreamFailed { id, .. }
            | Event::StreamPanicked { id } = event
            {
                lock(&self.control).release(id);
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
    fn release(&mut self, id: StreamId) {
        let Some(worker) = self.workers.get_mut(usize::from(id.worker)) else { return };
        let Some(slot) = worker.slots.get_mut(id.slot as usize) else { return };
        if slot.generation != id.generation {
            return;
        }
        let Some(port) = slot.port.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        worker.ports.put_back(port);
        worker.free_slots.push(id.slot);
    }
}

impl WorkerControl {
    fn streams(&self) -> usize {
        self.slots.len() - self.free_slots.len()
    }
}

/// Taking a lock whose holder panicked: every change under it is a single assignment or push.
fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(config: &EngineConfig) -> Result<(), StartError> {
    let limits = [
        ("streams_per_worker", config.streams_per_worker, 1 << 20),
        ("command_ring", config.command_ring, 1 << 20),
        ("event_ring", config.event_ring, 1 << 20),
        ("receive_budget", config.receive_budget, 1 << 16),
    ];
    for (name, value, most) in limits {
        if !(1..=most).contains(&value) {
            return Err(StartError::OutOfRange { name, least: 1, most });
        }
    }
    Ok(())
}
