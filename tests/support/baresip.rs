//! baresip (Debian's baresip-core) as a headless phone: a WAV file is the microphone, what it hears is recorded.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::ports::{free_loopback_port, free_media_ports};
use super::wav::Wav;
use super::{fixture, within};

/// A call by baresip. It hangs up when its microphone file ends.
pub(crate) struct Baresip {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Baresip {
    /// Calls `user`, speaking these samples (8 kHz).
    pub(crate) fn call(server: SocketAddr, user: &str, microphone: &[i16], account: &str) -> Self {
        Self::start(microphone, account, Some(format!("/dial sip:{user}@{server}")))
    }

    /// Waits for a call and answers it with these samples.
    pub(crate) fn answer(microphone: &[i16]) -> Self {
        let phone = Self::start(microphone, "answermode=auto", None);
        assert!(
            within(Duration::from_secs(10), || phone.log().contains("baresip is ready")),
            "{}",
            phone.log()
        );
        phone
    }

    /// Where it can be called.
    pub(crate) fn uri(&self) -> String {
        format!("sip:caller@{}", self.address)
    }

    fn start(microphone: &[i16], account: &str, command: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().display();
        Wav { rate_hz: 8000, samples: microphone.to_vec() }.write(&folder.path().join("microphone.wav"));
        let rtp = free_media_ports(20);
        let address = SocketAddr::from(([127, 0, 0, 1], free_loopback_port()));
        let modules = module_path();
        let config = format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{}\naudio_source aufile,{path}/microphone.wav\n\
             ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
             rtp_ports {rtp}-{}\nmodule_path {modules}\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\n\
             snd_path {path}\nmodule_tmp account.so\nmodule_app menu.so\n",
            address.port(),
            rtp + 19,
        );
        std::fs::write(folder.path().join("config"), config).expect("a file");
        std::fs::write(
            folder.path().join("accounts"),
            format!("<sip:caller@127.0.0.1>;regint=0;{account}\n"),
        )
        .expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("baresip")
            .arg("-f")
            .arg(folder.path())
            .args(command.iter().flat_map(|command| ["-e", command]))
            // A limit of its own, should the call never end.
            .args(["-t", &(microphone.len() / 8000 + 15).to_string()])
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("baresip starts");
        Self { child, address, folder }
    }

    /// Everything it printed.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the end of the call; what was spoken and what was heard, from their first packets on.
    pub(crate) fn recording(mut self, limit: Duration) -> Recording {
        let ended = within(limit, || self.log().contains("terminated (duration") || self.has_exited());
        let log = self.log();
        self.quit();
        assert!(ended && log.contains("Call established"), "the call did not run to its end:\n{log}");
        let read = |end: &str| {
            let file = std::fs::read_dir(self.folder.path())
                .expect("the folder")
                .map(|entry| entry.expect("an entry").path())
                .find(|path| path.to_string_lossy().ends_with(end))
                .unwrap_or_else(|| panic!("no recording {end}:\n{log}"));
            let wav = Wav::read(&file);
            assert_eq!(wav.rate_hz, 8000);
            wav.samples
        };
        Recording { heard: read("-dec.wav"), spoken: read("-enc.wav"), log }
    }

    fn has_exited(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_some()
    }

    /// SIGTERM lets it hang up and finish its recordings.
    fn quit(&mut self) {
        if self.has_exited() {
            return;
        }
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        within(Duration::from_secs(5), || self.has_exited());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        self.quit();
        if std::thread::panicking() {
            eprintln!("-- baresip:\n{}", self.log());
        }
    }
}

/// A finished call.
pub(crate) struct Recording {
    pub(crate) heard: Vec<i16>,
    pub(crate) spoken: Vec<i16>,
    pub(crate) log: String,
}

/// Speech recorded once, 8 kHz.
pub(crate) fn speech() -> Vec<i16> {
    let wav = Wav::read(&fixture("fixtures/caller.wav"));
    assert_eq!(wav.rate_hz, 8000);
    wav.samples
}

fn module_path() -> &'static str {
    [
        "/usr/lib/baresip/modules",
        "/usr/lib/x86_64-linux-gnu/baresip/modules",
        "/usr/local/lib/baresip/modules",
    ]
    .into_iter()
    .find(|path| Path::new(path).join("g711.so").is_file())
    .expect("baresip's modules")
}
