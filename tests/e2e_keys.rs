//! Keys of a call without telephone-event: tones in the audio, both ways.

mod support;

use std::time::Duration;

use support::agent::Agent;
use support::audio::{key, share_at, silence};
use support::baresip::speech;
use support::phone::{Dial, Phone};
use support::server::{Server, Setup};
use support::within;

#[test]
fn tones_reach_the_agent_once_each_and_are_counted() {
    let (agent, server) = house("");
    let phone = dial(&server, "agent", false);
    let answer = &phone.answer;
    assert!(!answer.body.contains("telephone-event"), "nobody offered it: {answer:?}");
    phone.play(&[silence(200), speech()[..8000].to_vec(), silence(100)].concat());
    for name in "1470*#".chars() {
        phone.play(&[key(name, 100, 3000.0), silence(100)].concat());
    }
    assert!(within(Duration::from_secs(10), || keys(&agent).len() >= 6), "{:?}", keys(&agent));
    phone.play(&speech()[8000..16_000]);
    assert!(within(Duration::from_secs(5), || phone.has_spoken()));
    assert_eq!(keys(&agent), ["1", "4", "7", "0", "*", "#"]);
    let listed = server.calls();
    let media = &server.call(&listed[0])["media"];
    assert_eq!((&media["digits_received"], &media["digits_inband"]), (&6.into(), &6.into()), "{media}");
    assert_eq!(phone.hang_up(), Some(200));
    assert_eq!(server.metric("sidetone_calls_digits_inband_total", ""), Some(6.0));
    assert_eq!(server.metric("sidetone_calls_digits_rtp_total", ""), Some(0.0));
}

#[test]
fn a_key_in_two_ways_reaches_the_agent_once() {
    let (agent, server) = house("[media]\ninband_dtmf = \"always\"\n");
    let phone = dial(&server, "agent", true);
    for name in "55".chars() {
        phone.play(&[silence(300), key(name, 100, 3000.0), silence(40)].concat());
        assert!(within(Duration::from_secs(5), || phone.has_spoken()));
        phone.press(name);
    }
    phone.play(&[silence(300), key('9', 100, 3000.0), silence(300)].concat());
    assert!(within(Duration::from_secs(10), || keys(&agent).contains(&"9".to_owned())), "{:?}", keys(&agent));
    assert_eq!(keys(&agent), ["5", "5", "9"]);
    assert_eq!(phone.hang_up(), Some(200));
    assert!(
        within(Duration::from_secs(5), || server.metric("sidetone_calls_digits_repeated_total", "")
            == Some(2.0)),
        "{}",
        server.metrics_like("digits")
    );
}

#[test]
fn a_key_is_sent_as_a_tone_to_a_phone_without_telephone_event() {
    let (_agent, server) = house("");
    let phone = dial(&server, "echo", false);
    let headers = ["Content-Type: application/dtmf-relay".to_owned()];
    let response = phone.request("INFO", &headers, "Signal=8\r\nDuration=200\r\n").expect("a response");
    assert_eq!(response.status(), Some(200));
    let loud = |phone: &Phone| {
        let audio = phone.audio();
        audio.chunks_exact(160).filter(|block| support::audio::rms(block) > 1000.0).count()
    };
    assert!(within(Duration::from_secs(5), || loud(&phone) >= 10), "{} of 10 loud blocks", loud(&phone));
    std::thread::sleep(Duration::from_millis(500));
    let audio = phone.audio();
    let blocks: Vec<_> =
        audio.chunks_exact(160).filter(|block| support::audio::rms(block) > 1000.0).collect();
    assert_eq!(blocks.len(), 10, "200 ms, once");
    for block in blocks {
        let (row, column) = (share_at(852.0, block), share_at(1336.0, block));
        assert!(row > 0.2 && column > 0.3 && row + column > 0.85, "{row} {column}");
    }
    assert!(phone.heard().iter().all(|packet| packet.payload_type == 0));
    assert_eq!(phone.hang_up(), Some(200));
}

/// A server of its own, for counters of one call only, and the backend of its agent.
fn house(config: &str) -> (Agent, Server) {
    let agent = Agent::start(|call| call.listen(|_, _| {}));
    let routes = format!(
        "{config}[agents.keys]\nurl = \"{}\"\n[[routes]]\nmatch = \"agent\"\napp = \"agent\"\nagent = \"keys\"\n\
         [[routes]]\nmatch = \"echo\"\napp = \"echo\"\n",
        agent.url()
    );
    let server = Server::start(&Setup::new(&routes));
    (agent, server)
}

fn dial(server: &Server, user: &str, telephone_event: bool) -> Phone {
    let dial = Dial { telephone_event, ..Dial::new(server.sip, user) };
    Phone::dial_with(dial).expect("the call is answered")
}

fn keys(agent: &Agent) -> Vec<String> {
    let digits = agent.events("dtmf");
    digits.iter().map(|(_, message)| message["dtmf"]["digit"].as_str().unwrap_or("?").to_owned()).collect()
}
