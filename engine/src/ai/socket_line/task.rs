//! The task of one call by a socket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::carrier::{AudioSocket, CarrierError, Close, Received, Transport, WebSocket};
use super::super::convert::Converter;
use super::super::dialect::{AudioFormat, Encoding, LineCodec, LineHeard, LineProtocol, LineStart, Outbox};
use super::super::line::Line;
use super::super::link::monotonic_now;
use super::caller::CallerAudio;
use super::clock::{Clock, FRAME};
use super::voice::{Said, Voice};
use super::{
    LineApp, LineCommand, LineConfig, LineCounters, LineEnd, LineError, LineEvent, LineFigures, Socket,
    SocketLine, WAITING,
};
use crate::time::Duration;

type Started = Result<(LineStart, SocketLine), LineError>;

/// Waits for the call's introduction, and serves it to its end.
pub(super) async fn accept(
    tcp: std::net::TcpStream,
    config: LineConfig,
    counters: Arc<LineCounters>,
    mut started: oneshot::Sender<Started>,
) {
    let patience = config.start_timeout;
    let introduced = tokio::select! {
        introduced = timeout(patience, introduce(tcp, &config, &counters)) => introduced,
        () = started.closed() => return,
    };
    let (start, socket, codec) = match introduced {
        Ok(Ok(introduced)) => introduced,
        Ok(Err(end)) => return drop(started.send(Err(end.into()))),
        Err(_) => return drop(started.send(Err(LineError::Timeout(patience)))),
    };
    let (command_sender, commands) = mpsc::channel(WAITING);
    let (events, event_receiver) = mpsc::channel(WAITING);
    let (ended, end) = oneshot::channel();
    let Some(call) =
        LineTask::new(socket, codec, config, start.format, (commands, events), Arc::clone(&counters))
    else {
        let reason = format!("audio of the format {:?}, which cannot be converted", start.format);
        return drop(started.send(Err(LineEnd::Protocol(reason).into())));
    };
    let handle = SocketLine { commands: command_sender, events: event_receiver, end: Some(end) };
    // Nobody waits any more: the handle is dropped here, which hangs up.
    let _ = started.send(Ok((start, handle)));
    let (end, figures, call) = call.run().await;
    let _ = ended.send((end.clone(), figures));
    // Only now does the bot learn of it, and so signalling hears of the caller's end first. The peer may take its time to close.
    call.end(end).await;
}

async fn introduce(
    tcp: std::net::TcpStream,
    config: &LineConfig,
    counters: &LineCounters,
) -> Result<(LineStart, Socket, LineCodec), LineEnd> {
    let mut socket = open(tcp, config).await.map_err(|error| LineEnd::Lost(error.to_string()))?;
    let mut codec = config.protocol.codec();
    for _ in 0..MOST_BEFORE_START {
        let message = match socket.next().await {
            None => return Err(LineEnd::Lost("it ended before a call was introduced".to_owned())),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(Received::Close(_))) => return Err(LineEnd::CallerHungUp),
            Some(Ok(Received::Alive)) => continue,
            Some(Ok(Received::Message(kind, message))) => (kind, message),
        };
        match codec.decode(message.0, &message.1) {
            Ok(LineHeard::Start(start)) => return Ok((start, socket, codec)),
            Ok(LineHeard::HangUp) => return Err(LineEnd::CallerHungUp),
            Ok(LineHeard::Broken(reason)) => {
                refuse(&mut socket).await;
                return Err(LineEnd::Protocol(reason));
            }
            Ok(_) | Err(_) => counters.messages_ignored.increment(),
        }
    }
    refuse(&mut socket).await;
    Err(LineEnd::Protocol("it said much and introduced no call".to_owned()))
}

async fn refuse(socket: &mut Socket) {
    let _ = timeout(CLOSE_TIMEOUT, socket.close(Close::PROTOCOL)).await;
}

async fn open(tcp: std::net::TcpStream, config: &LineConfig) -> io::Result<Socket> {
    tcp.set_nonblocking(true)?;
    let tcp = TcpStream::from_std(tcp)?;
    tcp.set_nodelay(true)?;
    // What waits in the kernel is heard late, and cannot be taken back when the caller interrupts.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&tcp, SEND_BUFFER_BYTES);
    let largest = config.protocol.largest_message();
    let audio_socket = AudioSocket::new(tcp, largest, config.write_stall)?;
    Ok(match config.protocol {
        LineProtocol::AudioSocket => Socket::AudioSocket(Box::new(audio_socket)),
        LineProtocol::ChanWebSocket => {
            let transport: Box<dyn Transport> = Box::new(audio_socket.into_tcp());
            let limits = WebSocket::config(largest);
            let stream = WebSocketStream::from_raw_socket(transport, Role::Server, Some(limits)).await;
            Socket::WebSocket(Box::new(WebSocket::new(stream)))
        }
    })
}

struct LineTask {
    socket: Socket,
    codec: LineCodec,
    config: LineConfig,
    format: AudioFormat,
    /// How often the peer may still change it.
    format_changes: u8,
    caller: CallerAudio,
    voice: Voice,
    to_peer: Converter,
    clock: Clock,
    outbox: Outbox,
    /// Messages of the caller that are on their way back.
    echo: VecDeque<Vec<u8>>,
    spurt: Spurt,
    /// The peer has enough of our audio.
    peer_is_full: bool,
    stalled_since: Option<Instant>,
    heard_at: Instant,
    next_ping: Instant,
    unanswered_pings: u32,
    /// Messages that may still be read before the next frame.
    reads_left: u32,
    commands: mpsc::Receiver<LineCommand>,
    events: mpsc::Sender<LineEvent>,
    figures: LineFigures,
    counters: Arc<LineCounters>,
}

/// Whether a peer with a queue gets audio now. In pauses it gets none, so that a clock of ours that is faster fills no queue.
#[derive(Clone, Copy, Debug, Default)]
struct Spurt {
    is_on: bool,
    /// Frames of silence at its end so far.
    quiet: u32,
}

impl LineTask {
    fn new(
        socket: Socket,
        codec: LineCodec,
        config: LineConfig,
        format: AudioFormat,
        (commands, events): (mpsc::Receiver<LineCommand>, mpsc::Sender<LineEvent>),
        counters: Arc<LineCounters>,
    ) -> Option<Self> {
        let line = Line::new(match format.encoding {
            Encoding::Pcma => AudioFormat::PCMA,
            Encoding::Pcmu | Encoding::L16 => AudioFormat::PCMU,
        });
        let now = Instant::now();
        Some(Self {
            socket,
            codec,
            format,
            format_changes: MOST_FORMAT_CHANGES,
            caller: CallerAudio::new(monotonic_now(), line, format)?,
            voice: Voice::new(line),
            to_peer: Converter::new(line.format(), format)?,
            clock: Clock::new(now),
            outbox: Outbox::default(),
            echo: VecDeque::new(),
            spurt: Spurt::default(),
            peer_is_full: false,
            stalled_since: None,
            heard_at: now,
            next_ping: now + config.ping_interval,
            unanswered_pings: 0,
            reads_left: READS_PER_FRAME,
            config,
            commands,
            events,
            figures: LineFigures::default(),
            counters,
        })
    }

    async fn run(mut self) -> (LineEnd, LineFigures, Self) {
        let end = loop {
            let may_read = self.reads_left > 0 && !self.caller.is_ahead(monotonic_now());
            let turn = tokio::select! {
                biased;
                () = sleep_until(self.clock.next()) => self.tick().await,
                command = self.commands.recv() => self.obey(command),
                received = self.socket.next(), if may_read => self.receive(received),
            };
            if let Err(end) = turn {
                break end;
            }
        };
        let (received, gaps) = self.caller.figures();
        let figures = LineFigures { received, gaps, sent: self.voice.sent(), ..self.figures };
        let counter = match &end {
            LineEnd::CallerHungUp => &self.counters.ended_by_caller,
            LineEnd::HungUp | LineEnd::Shutdown => &self.counters.ended_here,
            LineEnd::Lost(_) => &self.counters.lost,
            LineEnd::Protocol(_) => &self.counters.protocol_errors,
            LineEnd::Silent => &self.counters.silent,
            LineEnd::Stalled => &self.counters.stalled,
        };
        counter.increment();
        (end, figures, self)
    }

    fn obey(&mut self, command: Option<LineCommand>) -> Result<(), LineEnd> {
        match command {
            None | Some(LineCommand::HangUp) => return Err(LineEnd::HungUp),
            Some(LineCommand::Answer) if self.config.answer => self.codec.answer(&mut self.outbox),
            Some(LineCommand::Answer) => {}
            Some(LineCommand::Press(digit, duration)) => {
                if !self.voice.press(digit, duration) {
                    self.counters.digits_dropped.increment();
                }
            }
            Some(LineCommand::Attach(app)) => {
                self.echo.clear();
                self.caller.restart();
                if let Some(report) = self.voice.attach(app) {
                    self.tell(LineEvent::PlayFinished(report));
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, received: Option<Result<Received, CarrierError>>) -> Result<(), LineEnd> {
        self.reads_left = self.reads_left.saturating_sub(1);
        let (kind, message) = match received {
            None => return Err(LineEnd::Lost("end of stream".to_owned())),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(Received::Close(_))) => return Err(LineEnd::CallerHungUp),
            Some(Ok(Received::Alive)) => {
                self.unanswered_pings = 0;
                return Ok(());
            }
            Some(Ok(Received::Message(kind, message))) => (kind, message),
        };
        (self.heard_at, self.unanswered_pings) = (Instant::now(), 0);
        match self.codec.decode(kind, &message) {
            Err(_) => self.counters.messages_ignored.increment(),
            Ok(LineHeard::Nothing | LineHeard::Start(_)) => {}
            Ok(LineHeard::HangUp) => return Err(LineEnd::CallerHungUp),
            Ok(LineHeard::Broken(reason)) => return Err(LineEnd::Protocol(reason)),
            Ok(LineHeard::Pressure { high }) => self.peer_is_full = high,
            Ok(LineHeard::Error(error)) => {
                self.counters.errors_reported.increment();
                let error: String = error.chars().filter(|c| !c.is_control()).take(MAX_ERROR_CHARS).collect();
                tracing::info!(error, "the peer of a call by a socket reports an error");
            }
            Ok(LineHeard::Digit(digit)) => {
                self.counters.digits.increment();
                if let LineApp::Ai(port) = self.voice.app() {
                    port.push_digit(self.caller.position(), digit, KEY);
                    port.wake();
                }
                self.tell(LineEvent::Digit(digit));
            }
            Ok(LineHeard::Audio { format, audio }) => {
                self.take_format(format)?;
                if matches!(self.voice.app(), LineApp::Echo) {
                    if self.echo.len() < MOST_ECHO {
                        self.echo.push_back(audio.to_vec());
                    } else {
                        self.counters.echo_dropped.increment();
                    }
                }
                self.hear(audio);
            }
        }
        Ok(())
    }

    fn hear(&mut self, audio: &[u8]) {
        let now = monotonic_now();
        let app = self.voice.app();
        self.caller.take(now, audio, |position, block| {
            if let LineApp::Ai(port) = app {
                port.push_audio(now, position, block);
            }
        });
        if let LineApp::Ai(port) = self.voice.app() {
            port.wake();
        }
    }

    fn take_format(&mut self, format: AudioFormat) -> Result<(), LineEnd> {
        if format == self.format {
            return Ok(());
        }
        let unusable = || LineEnd::Protocol(format!("audio of the format {format:?}"));
        self.format_changes = self.format_changes.checked_sub(1).ok_or_else(|| {
            LineEnd::Protocol("it changes the format of its audio again and again".to_owned())
        })?;
        let ours = self.voice.format();
        self.to_peer = Converter::new(ours, format).ok_or_else(unusable)?;
        if !self.caller.change(format) {
            return Err(unusable());
        }
        self.format = format;
        Ok(())
    }

    /// Everything that is due at a frame. Never waits.
    async fn tick(&mut self) -> Result<(), LineEnd> {
        let due = self.clock.due(Instant::now());
        self.reads_left = READS_PER_FRAME;
        self.figures.late_frames += due.late;
        self.figures.left_out_frames += due.left_out;
        self.counters.frames_late.add(due.late);
        self.counters.frames_left_out.add(due.left_out);
        let now = monotonic_now();
        let app = self.voice.app();
        let silent = self.caller.fill_gap(now, |position, block| {
            if let LineApp::Ai(port) = app {
                port.push_audio(now, position, block);
            }
        });
        self.counters.gap_frames.add(silent / FRAME_SAMPLES as u64);
        self.look_for_life()?;
        match poll_fn(|cx| Poll::Ready(self.socket.poll_ready(cx))).await {
            Poll::Ready(Err(error)) => return Err(broken(error)),
            Poll::Ready(Ok(())) if !self.peer_is_full => {
                self.stalled_since = None;
                for _ in 0..due.frames {
                    self.say(now);
                }
            }
            readiness => {
                if readiness.is_ready() {
                    self.stalled_since = None;
                } else if self.stalled_since.get_or_insert_with(Instant::now).elapsed()
                    >= self.config.write_stall
                {
                    return Err(LineEnd::Stalled);
                }
                self.counters.frames_held.add(due.frames);
                if self.voice.hold(now) {
                    self.codec.flush(&mut self.outbox);
                }
            }
        }
        if let LineApp::Ai(port) = self.voice.app() {
            port.wake();
        }
        self.send().await
    }

    /// Makes one frame, and more where a peer with a queue needs something to begin with.
    fn say(&mut self, now: crate::time::Instant) {
        if matches!(self.voice.app(), LineApp::Echo) && !self.echo.is_empty() {
            for audio in std::mem::take(&mut self.echo) {
                self.codec.audio(&audio, &mut self.outbox);
                self.counters.frames_sent.increment();
            }
            return;
        }
        let said = self.say_frame(now, !self.codec.has_queue() || self.spurt.is_on);
        if !self.codec.has_queue() {
            return;
        }
        if said.cut {
            self.spurt = Spurt::default();
        } else if said.audible {
            let begins = !std::mem::replace(&mut self.spurt.is_on, true);
            self.spurt.quiet = 0;
            if begins {
                for _ in 0..LEAD_FRAMES {
                    self.say_frame(now, true);
                }
            }
        } else {
            self.spurt.quiet += 1;
            self.spurt.is_on &= self.spurt.quiet < QUIET_FRAMES;
        }
    }

    fn say_frame(&mut self, now: crate::time::Instant, even_silence: bool) -> Said {
        let mut frame = [0; FRAME_SAMPLES];
        let said = self.voice.frame(now, &mut frame);
        if said.cut {
            self.codec.flush(&mut self.outbox);
        }
        if even_silence || said.audible || said.cut {
            self.codec.audio(self.to_peer.convert(&frame), &mut self.outbox);
            self.counters.frames_sent.increment();
        }
        if let Some(report) = said.finished {
            self.tell(LineEvent::PlayFinished(report));
        }
        said
    }

    /// Hands over what waits, if the socket takes it.
    async fn send(&mut self) -> Result<(), LineEnd> {
        let Self { socket, outbox, .. } = self;
        let sent = poll_fn(|cx| {
            if outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match socket.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Ready(Ok(())),
            }
            for (kind, message) in outbox.messages() {
                if let Err(error) = socket.start_send(kind, message) {
                    return Poll::Ready(Err(error));
                }
            }
            outbox.clear();
            match socket.poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(())),
            }
        });
        sent.await.map_err(broken)
    }

    fn look_for_life(&mut self) -> Result<(), LineEnd> {
        let silence = self.config.silence_timeout;
        if !silence.is_zero() && self.heard_at.elapsed() >= silence {
            return Err(LineEnd::Silent);
        }
        if Instant::now() < self.next_ping {
            return Ok(());
        }
        if self.unanswered_pings >= MAX_UNANSWERED_PINGS {
            return Err(LineEnd::Lost("it answers no ping".to_owned()));
        }
        self.next_ping += self.config.ping_interval;
        // Not while it waits for the peer: what cannot be written is no question.
        if self.stalled_since.is_none() {
            self.unanswered_pings += u32::from(self.socket.start_ping().map_err(broken)?);
        }
        Ok(())
    }

    fn tell(&self, event: LineEvent) {
        if self.events.try_send(event).is_err() {
            self.counters.digits_dropped.increment();
        }
    }

    async fn end(mut self, end: LineEnd) {
        let _ = self.voice.attach(LineApp::Silence);
        let code = match end {
            LineEnd::Lost(_) | LineEnd::Stalled => return,
            LineEnd::Protocol(_) => Close::PROTOCOL,
            LineEnd::Silent => Close::AWAY,
            LineEnd::CallerHungUp | LineEnd::HungUp | LineEnd::Shutdown => Close::NORMAL,
        };
        let _ = timeout(CLOSE_TIMEOUT, async {
            if end == LineEnd::HungUp {
                self.codec.hang_up(&mut self.outbox);
            }
            for (kind, message) in self.outbox.messages() {
                self.socket.send(kind, message).await?;
            }
            self.socket.close(code).await?;
            // Closing a socket with unread data resets it, and the goodbye would be lost.
            self.socket.read_out().await
        })
        .await;
    }
}

fn broken(error: CarrierError) -> LineEnd {
    match error {
        CarrierError::Lost(reason) => LineEnd::Lost(reason),
        CarrierError::TooLarge(reason) | CarrierError::Protocol(reason) => LineEnd::Protocol(reason),
    }
}

/// What is told of a key whose length nobody tells.
const KEY: Duration = Duration::from_millis(160);
const FRAME_SAMPLES: usize = AudioFormat::PCMU.bytes(FRAME);
/// A peer with a queue has so much of a spurt ahead: our timer and the network may be late by as much.
const LEAD_FRAMES: u32 = 2;
/// 400 ms, longer than what a bot pauses for in a sentence.
const QUIET_FRAMES: u32 = 20;
const READS_PER_FRAME: u32 = 32;
/// Half a second of echo.
const MOST_ECHO: usize = 25;
/// Every change makes new filters.
const MOST_FORMAT_CHANGES: u8 = 8;
/// Pings, and errors that the call survives.
const MOST_BEFORE_START: u32 = 16;
const MAX_UNANSWERED_PINGS: u32 = 2;
const MAX_ERROR_CHARS: usize = 200;
/// How long the end of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A quarter of a second of 16 bits at 8 kHz, which the kernel doubles.
const SEND_BUFFER_BYTES: usize = 4096;
