//! Kamailio on loopback, with a configuration of tests/proxies.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::ng::Process;
use super::{fixture, within};

/// Starts it on `port` with `values` filled in; what it says goes to kamailio.log in `folder`.
pub(crate) fn start(folder: &Path, configuration: &str, port: u16, values: &[(&str, String)]) -> Process {
    let text =
        std::fs::read_to_string(fixture(&format!("proxies/{configuration}"))).expect("the configuration");
    let text = text.replace("SIP_PORT", &port.to_string());
    let text = values.iter().fold(text, |text, (name, value)| text.replace(name, value));
    let file = folder.join("kamailio.cfg");
    std::fs::write(&file, text).expect("written");
    let log = File::create(folder.join("kamailio.log")).expect("a log");
    let child = Command::new("kamailio")
        .arg("-f")
        .arg(&file)
        .args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("kamailio starts");
    let process = Process(child);
    let probe = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    probe.set_read_timeout(Some(Duration::from_millis(200))).expect("an option");
    let local = probe.local_addr().expect("an address");
    let options = format!(
        "OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKup\r\n\
         From: <sip:up@{local}>;tag=1\r\nTo: <sip:127.0.0.1:{port}>\r\nCall-ID: up\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 5\r\nContent-Length: 0\r\n\r\n"
    );
    let ready = within(Duration::from_secs(15), || {
        let _ = probe.send_to(options.as_bytes(), (Ipv4Addr::LOCALHOST, port));
        probe.recv(&mut [0; 4096]).is_ok()
    });
    assert!(ready, "kamailio: {}", std::fs::read_to_string(folder.join("kamailio.log")).unwrap_or_default());
    process
}
