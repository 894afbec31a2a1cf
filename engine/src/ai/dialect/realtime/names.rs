//! The two name tables: OpenAI Realtime as it is generally available, and Azure Voice Live, which keeps the words of
//! its beta. What is received is understood in both; what is sent is strict, since either refuses a whole
//! `session.update` for one unknown key.

use serde_json::{Value, json};

use super::super::{AudioFormat, Encoding};

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Vendor {
    OpenAi,
    VoiceLive,
}

/// Where things are in a session, and what they are called. Paths of keys.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) vendor: Vendor,
    /// Used where neither the settings nor the URL name one.
    pub(super) model: &'static str,
    /// What the session must say besides.
    pub(super) session_type: Option<&'static str>,
    pub(super) modalities: (&'static str, &'static [&'static str]),
    pub(super) input_format: &'static [&'static str],
    pub(super) output_format: &'static [&'static str],
    pub(super) transcription: &'static [&'static str],
    pub(super) transcription_model: &'static str,
    pub(super) turn_detection: &'static [&'static str],
    pub(super) turn_detection_type: &'static str,
    pub(super) noise_reduction: Option<(&'static [&'static str], &'static str)>,
    pub(super) echo_cancellation: Option<(&'static [&'static str], &'static str)>,
    pub(super) voice: &'static [&'static str],
    /// The content of an assistant's message in the history.
    pub(super) assistant_text: &'static str,
}

static OPENAI: Names = Names {
    vendor: Vendor::OpenAi,
    model: "gpt-realtime-2.1",
    session_type: Some("realtime"),
    modalities: ("output_modalities", &["audio"]),
    input_format: &["audio", "input", "format"],
    output_format: &["audio", "output", "format"],
    transcription: &["audio", "input", "transcription"],
    transcription_model: "gpt-4o-mini-transcribe",
    turn_detection: &["audio", "input", "turn_detection"],
    turn_detection_type: "server_vad",
    noise_reduction: None,
    echo_cancellation: None,
    voice: &["audio", "output", "voice"],
    assistant_text: "output_text",
};

static VOICE_LIVE: Names = Names {
    vendor: Vendor::VoiceLive,
    model: "gpt-realtime",
    session_type: None,
    modalities: ("modalities", &["text", "audio"]),
    input_format: &["input_audio_format"],
    output_format: &["output_audio_format"],
    transcription: &["input_audio_transcription"],
    transcription_model: "azure-speech",
    turn_detection: &["turn_detection"],
    turn_detection_type: "azure_semantic_vad",
    noise_reduction: Some((&["input_audio_noise_reduction"], "azure_deep_noise_suppression")),
    echo_cancellation: Some((&["input_audio_echo_cancellation"], "server_echo_cancellation")),
    voice: &["voice"],
    assistant_text: "text",
};

impl Vendor {
    pub(super) fn names(self) -> &'static Names {
        match self {
            Self::OpenAi => &OPENAI,
            Self::VoiceLive => &VOICE_LIVE,
        }
    }

    /// The nearest format that the vendor has, at least as good where there is one.
    pub(super) fn supported(self, wanted: AudioFormat) -> AudioFormat {
        match (wanted.encoding, self) {
            (Encoding::Pcmu, _) => AudioFormat::PCMU,
            (Encoding::Pcma, _) => AudioFormat::PCMA,
            (Encoding::L16, Self::OpenAi) => AudioFormat::l16(24_000),
            (Encoding::L16, Self::VoiceLive) => AudioFormat::l16(match wanted.rate {
                0..=8_000 => 8_000,
                8_001..=16_000 => 16_000,
                _ => 24_000,
            }),
        }
    }

    /// The word for a format of the caller's audio; for Voice Live the rate goes beside it.
    pub(super) fn input_format(self, format: AudioFormat) -> Value {
        match (self, format.encoding) {
            (Self::VoiceLive, Encoding::L16) => json!("pcm16"),
            _ => self.output_format(format),
        }
    }

    /// The word for a format of the bot's audio.
    pub(super) fn output_format(self, format: AudioFormat) -> Value {
        match (self, format.encoding) {
            // G.711 must not have a rate here.
            (Self::OpenAi, Encoding::Pcmu) => json!({ "type": "audio/pcmu" }),
            (Self::OpenAi, Encoding::Pcma) => json!({ "type": "audio/pcma" }),
            (Self::OpenAi, Encoding::L16) => json!({ "type": "audio/pcm", "rate": format.rate }),
            (Self::VoiceLive, Encoding::Pcmu) => json!("g711_ulaw"),
            (Self::VoiceLive, Encoding::Pcma) => json!("g711_alaw"),
            (Self::VoiceLive, Encoding::L16) => json!(match format.rate {
                8_000 => "pcm16_8000hz",
                16_000 => "pcm16_16000hz",
                _ => "pcm16",
            }),
        }
    }
}

/// What a format is called means, in the words of either; `rate` is what stands beside it.
pub(super) fn format_of(word: &Value, rate: Option<u64>) -> Option<AudioFormat> {
    let name = word.as_str().or_else(|| word.get("type")?.as_str())?;
    let rate = word.get("rate").and_then(Value::as_u64).or(rate);
    Some(match name {
        "audio/pcmu" | "g711_ulaw" => AudioFormat::PCMU,
        "audio/pcma" | "g711_alaw" => AudioFormat::PCMA,
        "audio/pcm" | "pcm16" => AudioFormat::l16(match rate {
            Some(8_000) => 8_000,
            Some(16_000) => 16_000,
            _ => 24_000,
        }),
        // The second spelling is that of versions before 2026.
        "pcm16_16000hz" | "pcm16-16000hz" => AudioFormat::l16(16_000),
        "pcm16_8000hz" | "pcm16-8000hz" => AudioFormat::l16(8_000),
        _ => return None,
    })
}
