//! Listeners of the calls that run: begun, seen, ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::ai::dialect::{TapDialect, TapTracks};
use engine::ai::tap::{TapConfig, TapId};
use engine::ai::{AiConfig, CallMeta};
use engine::command::Tapped;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::calls::{no_such_call, parse_id};
use super::routes::{Api, error};
use crate::media::{MediaTap, TapError};

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// `ws://` or `wss://`.
    url: String,
    #[serde(default)]
    dialect: DialectName,
    #[serde(default)]
    track: TrackName,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum DialectName {
    #[default]
    Twilio,
    Jambonz,
    Raw,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum TrackName {
    Inbound,
    Outbound,
    #[default]
    Both,
    Mix,
}

/// A listener as JSON.
#[derive(Serialize)]
struct StreamView {
    id: u64,
    dialect: DialectName,
    track: TrackName,
    sent_ms: u64,
    dropped_ms: u64,
}

/// `GET /v1/calls/{id}/streams`
pub(super) async fn list(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    let Some((call, _)) = find(&api, &id) else { return no_such_call() };
    let streams: Vec<_> = api.media.taps(call).iter().map(StreamView::new).collect();
    Json(json!({ "count": streams.len(), "streams": streams })).into_response()
}

/// `POST /v1/calls/{id}/streams`
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Response {
    let Some((call, meta)) = find(&api, &id) else { return no_such_call() };
    let Json(wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(rejection) => return error(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let config = TapConfig {
        listener: AiConfig::new(wanted.url),
        dialect: match wanted.dialect {
            DialectName::Twilio => TapDialect::Twilio,
            DialectName::Jambonz => TapDialect::Jambonz,
            DialectName::Raw => TapDialect::Raw,
        },
        tracks: match wanted.track {
            TrackName::Inbound => TapTracks::Inbound,
            TrackName::Outbound => TapTracks::Outbound,
            TrackName::Both => TapTracks::Both,
            TrackName::Mix => TapTracks::Mix,
        },
    };
    match api.media.tap(call, config, meta).await {
        Ok(tap) => (StatusCode::CREATED, Json(StreamView::new(&tap))).into_response(),
        Err(reason @ TapError::TooMany) => error(StatusCode::CONFLICT, &reason.to_string()),
        Err(reason @ TapError::Connect(engine::ai::ConnectError::Config(_))) => {
            error(StatusCode::BAD_REQUEST, &reason.to_string())
        }
        Err(reason @ TapError::Connect(_)) => error(StatusCode::BAD_GATEWAY, &reason.to_string()),
        Err(reason @ TapError::Media(_)) => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

/// `DELETE /v1/calls/{id}/streams/{stream}`
pub(super) async fn end(State(api): State<Arc<Api>>, Path((id, stream)): Path<(String, String)>) -> Response {
    let Some((call, _)) = find(&api, &id) else { return no_such_call() };
    match parse_id(&stream) {
        Some(stream) if api.media.untap(call, TapId(stream)) => {
            (StatusCode::ACCEPTED, Json(json!({ "id": stream, "state": "ending" }))).into_response()
        }
        _ => error(StatusCode::NOT_FOUND, "the call has no such stream; GET its streams lists them"),
    }
}

/// The media of a call that has some, and what its listeners are told of it.
fn find(api: &Api, id: &str) -> Option<(Tapped, CallMeta)> {
    let id = parse_id(id)?;
    let (summary, stream) = (api.calls.call(id)?, api.calls.stream(id)?);
    let meta = CallMeta {
        call_id: summary.call_id,
        from_number: summary.from,
        to_number: summary.to,
        ..CallMeta::default()
    };
    Some((stream.tapped(), meta))
}

impl StreamView {
    fn new(tap: &MediaTap) -> Self {
        let figures = tap.figures();
        Self {
            id: tap.id().0,
            dialect: match tap.dialect {
                TapDialect::Twilio => DialectName::Twilio,
                TapDialect::Jambonz => DialectName::Jambonz,
                TapDialect::Raw => DialectName::Raw,
            },
            track: match tap.tracks {
                TapTracks::Inbound => TrackName::Inbound,
                TapTracks::Outbound => TrackName::Outbound,
                TapTracks::Both => TrackName::Both,
                TapTracks::Mix => TrackName::Mix,
            },
            sent_ms: figures.sent * BLOCK_MS,
            dropped_ms: (figures.overflow + figures.stale) * BLOCK_MS,
        }
    }
}

const BLOCK_MS: u64 = 20;
