//! The demo agent over its real socket, with the engine's AI stream at the other end.

use engine::ai::{AiConfig, AiEnd, AiEvent, AiPort, AiRuntime, AiSession, CallMeta};
use engine::command::Digit;
use engine::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A call, driven faster than real time.
struct Call {
    port: AiPort,
    session: AiSession,
    doorbell: engine::Doorbell,
    timestamp: u64,
}

impl Call {
    async fn open(runtime: &AiRuntime, agent: &DemoAgent) -> Self {
        let opened = runtime.connect(AiConfig::new(agent.url.as_str()), CallMeta::default()).await;
        let (port, session) = opened.expect("a stream");
        Self { port, session, doorbell: runtime.doorbells()[0].clone(), timestamp: 0 }
    }

    /// Sends one frame and returns what was heard meanwhile.
    async fn frame(&mut self, audio: &[u8]) -> Vec<u8> {
        self.port.push_audio(Instant::ZERO, self.timestamp, audio);
        let mut frame = [0; 160];
        let len = self.port.pull(Instant::ZERO, self.timestamp as u32, &mut frame);
        self.timestamp += 160;
        self.doorbell.ring();
        sleep(Duration::from_millis(1)).await;
        frame[..len].to_vec()
    }

    async fn say(&mut self, audio: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        for frame in audio.chunks_exact(160) {
            heard.extend(self.frame(frame).await);
        }
        heard
    }

    /// Is silent until this much was heard.
    async fn hear(&mut self, enough: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        let hearing = async {
            while heard.len() < enough {
                heard.extend(self.frame(&[0xff; 160]).await);
            }
        };
        timeout(PATIENCE, hearing).await.expect("the agent speaks");
        heard
    }
}

fn greeting() -> &'static [u8] {
    include_bytes!("../../../../assets/demo-greeting.ulaw")
}

#[tokio::test]
async fn agent_greets_repeats_and_hangs_up() {
    let agent = DemoAgent::start().expect("an agent");
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let mut call = Call::open(&runtime, &agent).await;
    assert_eq!(call.hear(greeting().len()).await, greeting());

    // Time for the mark to reach the agent, and for the agent to listen.
    call.say(&[0xff; 8000]).await;
    let speech = &greeting()[..16_000];
    assert!(call.say(speech).await.is_empty());
    let said = call.hear(speech.len()).await;
    assert!(said.windows(8000).any(|window| window == &speech[4000..12_000]));

    let hash = Digit::from_char('#').expect("a digit");
    call.port.push_digit(call.timestamp, hash, Duration::from_millis(100));
    let end = async {
        loop {
            tokio::select! {
                event = call.session.next_event() => match event {
                    Some(AiEvent::Notice(_)) => {}
                    end => return end,
                },
                () = sleep(Duration::from_millis(1)) => {}
            }
            let mut frame = [0; 160];
            call.port.pull(Instant::ZERO, 0, &mut frame);
            call.doorbell.ring();
        }
    };
    let end = timeout(PATIENCE, end).await.expect("the end");
    assert_eq!(end, Some(AiEvent::Ended(AiEnd::Closed { code: 1000, reason: String::new() })));
}

#[tokio::test]
async fn agent_falls_silent_when_talked_over() {
    let agent = DemoAgent::start().expect("an agent");
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let mut call = Call::open(&runtime, &agent).await;
    let before = call.hear(8000).await;
    let counters = runtime.counters();
    let heard = call.say(&greeting()[2000..8000]).await;
    let clear = async {
        while counters.clears.value() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, clear).await.expect("a clear");
    assert!(call.say(&[0xff; 1600]).await.is_empty());
    assert!(before.len() + heard.len() < greeting().len());
}

#[tokio::test]
async fn garbage_ends_at_most_its_own_call() {
    use tokio::io::AsyncWriteExt as _;
    let agent = DemoAgent::start().expect("an agent");
    let runtime = AiRuntime::start(&[]).expect("a runtime");
    let mut call = Call::open(&runtime, &agent).await;
    let address = agent.url.trim_start_matches("ws://").trim_end_matches("/demo");
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(address).await.expect("a connection");
        let _ = tcp.write_all(&vec![0xa5; 50_000]).await;
    }
    assert_eq!(call.hear(8000).await, greeting()[..8000]);
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused() {
    let agent = DemoAgent::start().expect("an agent");
    let address = agent.url.trim_start_matches("ws://").trim_end_matches("/demo").to_owned();
    let mut kept = Vec::new();
    for _ in 0..MAX_CALLS {
        kept.push(TcpStream::connect(&address).await.expect("a connection"));
    }
    let (socket, _) = async {
        loop {
            let tcp = TcpStream::connect(&address).await.expect("a connection");
            let upgraded = tokio_tungstenite::client_async(agent.url.as_str(), tcp).await;
            match upgraded {
                Ok(opened) => return opened,
                // Refused: the limit works; with one call gone there is a place again.
                Err(_) => drop(kept.pop()),
            }
        }
    }
    .await;
    drop(socket);
    assert!(kept.len() < MAX_CALLS);
}
