//! What somebody outside wants of a call, done at once: hold, mute, recordings, keys in both directions.

use std::pin::Pin;

use engine::command::Digit;
use engine::player::Player;
use engine::stream::App;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::keys::Keys;
use super::talk::Talk;
use crate::call::{Call, Control, ControlError, Gather, GatherEnd, Gathered};
use crate::sip::RequestError;

/// What runs when nothing else is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// Callers hear themselves.
    Echo,
    /// Nothing; the call is driven from outside.
    Silence,
    /// A recording, whose end is the end of the call.
    Recording,
    /// A bot.
    Bot,
}

impl Base {
    fn app(self, muted: bool) -> App {
        match self {
            Self::Echo if !muted => App::Echo,
            _ => App::Silence,
        }
    }
}

/// What is being done for somebody outside.
pub(super) struct Controls {
    base: Base,
    muted: bool,
    playing: bool,
    keys: Keys,
    gathering: Option<Gathering>,
    holding: Option<Holding>,
}

/// An offer that changes a hold, on its way.
struct Holding {
    on: bool,
    answer: Pin<Box<dyn Future<Output = Result<String, RequestError>> + Send>>,
    reply: Reply,
}

/// Keys that are being collected.
struct Gathering {
    wanted: Gather,
    digits: String,
    due: Instant,
}

/// What comes of it by itself.
pub(super) enum Due {
    /// A key is to be pressed.
    Press(Digit),
    /// Collecting has ended.
    Gathered(Gathered),
    /// The peer answered to a hold.
    Held(Result<String, RequestError>),
}

type Reply = oneshot::Sender<Result<(), ControlError>>;

impl Controls {
    pub(super) fn new(base: Base) -> Self {
        Self { base, muted: false, playing: false, keys: Keys::default(), gathering: None, holding: None }
    }

    /// Without its bot the call is only driven from outside.
    pub(super) fn bot_left(&mut self, base: Base) {
        self.base = base;
    }

    /// Does it, or says why not.
    pub(super) async fn handle(
        &mut self,
        call: &mut Call,
        talk: Option<&Talk>,
        control: Control,
        reply: Reply,
    ) {
        if let Control::Hold(on) = control {
            return self.hold(call, on, reply);
        }
        let done = self.try_handle(call, talk, control).await;
        // Who asked may not wait any more.
        let _ = reply.send(done);
    }

    async fn try_handle(
        &mut self,
        call: &mut Call,
        talk: Option<&Talk>,
        control: Control,
    ) -> Result<(), ControlError> {
        let failed = |error: &dyn std::fmt::Display| ControlError::Failed(error.to_string());
        match control {
            Control::Hold(_) => Ok(()),
            Control::Mute(on) => {
                self.muted = on;
                match talk {
                    Some(talk) => talk.session.mute(on).map_err(|error| failed(&error)),
                    None if self.playing => Ok(()),
                    None => call.attach(self.base.app(on)).await.map_err(|error| failed(&error)),
                }
            }
            Control::Play { .. } if talk.is_some() => Err(ControlError::NotWithThisApp(
                "an agent speaks in this call; recordings are for calls without one",
            )),
            Control::Play { samples, repeat } => {
                let player = App::Player(Box::new(Player::new(samples, repeat)));
                call.attach(player).await.map_err(|error| failed(&error))?;
                self.playing = true;
                Ok(())
            }
            Control::StopPlaying if !self.playing => {
                Err(ControlError::NotNow("no recording is being played"))
            }
            Control::StopPlaying => self.resume(call).await.map_err(|error| failed(&error)),
            Control::Press(digits) => self.keys.add(&digits).map_err(ControlError::Invalid),
            Control::Gather(wanted) => {
                self.interrupt(call);
                let due = Instant::now() + wanted.first_timeout;
                self.gathering = Some(Gathering { wanted, digits: String::new(), due });
                Ok(())
            }
        }
    }

    fn hold(&mut self, call: &mut Call, on: bool, reply: Reply) {
        if self.holding.is_some() {
            let _ = reply.send(Err(ControlError::NotNow("the peer has not answered to the last hold yet")));
            return;
        }
        let answer = Box::pin(call.hold(on));
        self.holding = Some(Holding { on, answer, reply });
    }

    /// The peer has answered to a hold.
    pub(super) async fn held(
        &mut self,
        call: &mut Call,
        talk: Option<&Talk>,
        answer: Result<String, RequestError>,
    ) {
        let Some(holding) = self.holding.take() else { return };
        let settled = call.settle(answer).await.map_err(ControlError::Failed);
        if settled.is_ok()
            && let Some(talk) = talk
        {
            talk.hold(holding.on);
        }
        let _ = holding.reply.send(settled);
    }

    /// A recording has been played to its end; whether the call goes on.
    pub(super) async fn played(&mut self, call: &mut Call) -> bool {
        if !self.playing {
            return self.base != Base::Recording;
        }
        if self.base == Base::Recording {
            return false;
        }
        // The stream is gone then, which is told on its own.
        let _ = self.resume(call).await;
        true
    }

    async fn resume(&mut self, call: &mut Call) -> Result<(), crate::media::MediaError> {
        self.playing = false;
        call.attach(self.base.app(self.muted)).await
    }

    /// The peer pressed a key.
    pub(super) fn pressed(&mut self, digit: Digit) -> Option<Gathered> {
        let gathering = self.gathering.as_mut()?;
        let key = digit.as_char();
        let reason = if gathering.wanted.terminators.contains(key) {
            Some(GatherEnd::Terminator)
        } else {
            gathering.digits.push(key);
            (gathering.digits.len() >= gathering.wanted.max_digits).then_some(GatherEnd::MaxDigits)
        };
        gathering.due = Instant::now() + gathering.wanted.digit_timeout;
        reason.and_then(|reason| self.gathered(reason))
    }

    /// What comes next by itself. Cancel safe.
    pub(super) async fn next(&mut self) -> Due {
        let Self { keys, gathering, holding, .. } = self;
        let timeout = async {
            match gathering {
                Some(gathering) => sleep_until(gathering.due).await,
                None => std::future::pending().await,
            }
        };
        let held = async {
            match holding {
                Some(holding) => holding.answer.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            digit = keys.next() => Due::Press(digit),
            answer = held => Due::Held(answer),
            () = timeout => {
                let digits = self.gathering.take().map(|gathering| gathering.digits).unwrap_or_default();
                Due::Gathered(Gathered { digits, reason: GatherEnd::Timeout })
            }
        }
    }

    /// The call ends, or something else begins.
    pub(super) fn interrupt(&mut self, call: &Call) {
        if let Some(gathered) = self.gathered(GatherEnd::Interrupted) {
            call.tell_gathered(gathered);
        }
    }

    fn gathered(&mut self, reason: GatherEnd) -> Option<Gathered> {
        let gathering = self.gathering.take()?;
        Some(Gathered { digits: gathering.digits, reason })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gathering(max_digits: usize) -> Controls {
        let wanted = Gather {
            max_digits,
            terminators: "#".into(),
            first_timeout: Duration::from_millis(50),
            digit_timeout: Duration::from_millis(20),
        };
        let mut controls = Controls::new(Base::Silence);
        let due = Instant::now() + wanted.first_timeout;
        controls.gathering = Some(Gathering { wanted, digits: String::new(), due });
        controls
    }

    fn press(controls: &mut Controls, keys: &str) -> Option<Gathered> {
        keys.chars().find_map(|key| controls.pressed(Digit::from_char(key).expect("a key")))
    }

    #[tokio::test]
    async fn keys_are_collected_until_there_are_enough_or_one_ends_it_or_none_comes() {
        let end = |digits: &str, reason| Some(Gathered { digits: digits.into(), reason });
        assert_eq!(press(&mut gathering(4), "12#3"), end("12", GatherEnd::Terminator));
        assert_eq!(press(&mut gathering(4), "12*A5"), end("12*A", GatherEnd::MaxDigits));
        let mut slow = gathering(4);
        assert_eq!(press(&mut slow, "9"), None);
        let Due::Gathered(gathered) = slow.next().await else { panic!("a time-out") };
        assert_eq!(Some(gathered), end("9", GatherEnd::Timeout));
        assert_eq!(press(&mut slow, "1"), None, "it is over");
    }
}
