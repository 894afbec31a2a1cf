//! `/api/events`: events as they happen, over a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role as Side, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::extract::Query;
use super::problem::Problem;
use super::routes::Api;
use crate::event::{EventCounters, LiveError, Subscription};
use crate::model::{EventKind, Id, Role};

/// The paths.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(stream))
}

/// Which events are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Kinds with commas between them, such as `call.answered,call.ended`; all if not given.
    kinds: Option<String>,
    /// The id of the last event that was seen: what came after it is sent first.
    #[param(value_type = Option<String>, format = Uuid)]
    after: Option<Id>,
}

/// The tenant's events as they happen: a WebSocket with one text message per event. Browsers, which cannot set
/// `Authorization`, offer the subprotocols `sidetone.events` and `bearer.TOKEN`.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "stream_events",
    responses((status = 101, description = "The WebSocket is open.")))]
async fn stream(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
    mut request: Request,
) -> Result<Response, Problem> {
    caller.require(Role::Viewer)?;
    let kinds = kinds(wanted.kinds.as_deref())?;
    let accept = accept_key(request.headers())?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Problem::bad_request("this connection cannot become a WebSocket"))?;
    let events = &api.control.events;
    let subscription = events.live().subscribe(caller.tenant().clone(), kinds, wanted.after).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if offers_protocol(request.headers()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    let (ending, counters) = (events.ending(), Arc::clone(&api));
    tokio::spawn(async move {
        // A client that went away before the upgrade needs no events.
        let Ok(Ok(upgraded)) = timeout(PATIENCE, upgrade).await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST_WORD))
            .max_frame_size(Some(LONGEST_WORD));
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Side::Server, Some(config)).await;
        serve(socket, subscription, &ending, counters.control.events.counters()).await;
    });
    Ok(response)
}

/// Sends events until somebody has enough.
async fn serve(
    mut socket: WebSocketStream<TokioIo<Upgraded>>,
    mut subscription: Subscription,
    ending: &CancellationToken,
    counters: &EventCounters,
) {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let life = sleep(LONGEST_LIFE);
    tokio::pin!(life);
    let (code, reason) = loop {
        let message = tokio::select! {
            () = ending.cancelled() => break (CloseCode::Away, LiveError::Ending.to_string()),
            () = &mut life => break (CloseCode::Again, "connect again, with after=<the last event's id>".to_owned()),
            frame = socket.next() => match frame {
                // Whatever it says, it lives. Pings are answered by the next flush.
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    break (CloseCode::Policy, "nothing was heard for too long".to_owned());
                }
                Message::Ping(Default::default())
            }
            event = subscription.next() => match event {
                Ok(event) => {
                    counters.live_sent.increment();
                    match serde_json::to_string(&*event) {
                        Ok(text) => Message::text(text),
                        Err(_) => continue,
                    }
                }
                Err(LiveError::Store(_)) => break (CloseCode::Again, "the store does not answer".to_owned()),
                Err(error @ LiveError::Ending) => break (CloseCode::Away, error.to_string()),
                Err(error) => break (CloseCode::Policy, error.to_string()),
            },
        };
        match timeout(PATIENCE, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                counters.live_slow.increment();
                break (CloseCode::Policy, LiveError::Slow.to_string());
            }
        }
    };
    let close = CloseFrame { code, reason: reason.into() };
    let _ = timeout(GOODBYE, async {
        socket.close(Some(close)).await?;
        // Its own close, so that ours is read before the connection ends.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    })
    .await;
}

fn kinds(text: Option<&str>) -> Result<Vec<EventKind>, Problem> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            EventKind::named(word).ok_or_else(|| {
                let known = EventKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
                Problem::invalid("kinds", format!("must be some of {known}, with commas between them"))
            })
        })
        .collect()
}

/// What a WebSocket's opening handshake is answered with (RFC 6455 section 4.2).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let has = |name: header::HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    match key {
        Some(key) if version && has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade") => {
            HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(Problem::internal)
        }
        _ => Err(Problem::bad_request(
            "this is a WebSocket (RFC 6455, version 13); connect with ws:// or wss://",
        )),
    }
}

fn offers_protocol(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    offers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|protocol| protocol.trim() == PROTOCOL))
}

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Full => Self::too_many(error.to_string(), 5),
            LiveError::Unknown => Self::invalid("after", error.to_string()),
            LiveError::Slow | LiveError::Ending => Self::unavailable(error.to_string()),
            LiveError::Store(error) => error.into(),
        }
    }
}

const PROTOCOL: &str = "sidetone.events";
const PING: Duration = Duration::from_secs(20);
/// A client that answers no ping for so long is gone.
const SILENCE: Duration = Duration::from_secs(65);
/// How long a client may take to take one message.
const PATIENCE: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(3);
/// Then the token is looked at again.
const LONGEST_LIFE: Duration = Duration::from_secs(3_600);
/// Clients have nothing to say but pongs.
const LONGEST_WORD: usize = 4 * 1024;
