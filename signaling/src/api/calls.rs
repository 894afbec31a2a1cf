//! The calls that run now: seen, measured, ended.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::ai::AiFigures;
use engine::stream::{Codec, StreamStatistics};
use serde::Serialize;
use serde_json::json;

use super::routes::{Api, error};
use crate::call::{CallSummary, milliseconds};
use crate::record::AiView;

/// A call as JSON. Absent values are `null`; times are UTC.
#[derive(Serialize)]
struct CallView {
    id: u64,
    call_id: String,
    call_sid: Option<String>,
    app: &'static str,
    agent: Option<String>,
    via: &'static str,
    state: &'static str,
    from: String,
    to: String,
    since: String,
    answered: Option<String>,
    duration_ms: u64,
    codec: Option<&'static str>,
    remote_sip: Option<String>,
    remote_rtp: Option<String>,
    local_rtp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<MediaView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ai: Option<AiView>,
}

/// [`StreamStatistics`] as JSON.
#[derive(Serialize)]
struct MediaView {
    received_packets: u64,
    received_bytes: u64,
    lost_packets: i64,
    duplicate_packets: u64,
    reordered_packets: u64,
    late_packets: u64,
    refused_packets: u64,
    stranger_packets: u64,
    jitter_ms: f64,
    round_trip_ms: Option<f64>,
    sent_packets: u64,
    sent_bytes: u64,
    remote_lost_packets: i64,
    remote_jitter_ms: f64,
    concealed_frames: u64,
    jitter_buffer_ms: f64,
    digits_received: u64,
    digits_inband: u64,
    digits_repeated: u64,
}

/// `GET /v1/calls`
pub(super) async fn list(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let calls: Vec<_> =
        api.calls.list().into_iter().map(|summary| CallView::new(summary, None, None)).collect();
    Json(json!({ "count": calls.len(), "max": api.calls.max_calls(), "calls": calls }))
}

/// `GET /v1/calls/{id}`
pub(super) async fn one(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    let Some(id) = parse_id(&id) else { return no_such_call() };
    let (statistics, figures) = tokio::join!(api.calls.statistics(id), api.calls.ai_figures(id));
    match api.calls.call(id) {
        Some(summary) => Json(CallView::new(summary, statistics, figures)).into_response(),
        None => no_such_call(),
    }
}

/// `DELETE /v1/calls/{id}`
pub(super) async fn hang_up(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    match parse_id(&id) {
        Some(id) if api.calls.hang_up(id) => {
            (StatusCode::ACCEPTED, Json(json!({ "id": id, "state": "ending" }))).into_response()
        }
        _ => no_such_call(),
    }
}

/// Digits only: no sign, no spaces, and so one spelling per call.
pub(super) fn parse_id(id: &str) -> Option<u64> {
    id.parse().ok().filter(|number: &u64| number.to_string() == id)
}

pub(super) fn no_such_call() -> Response {
    error(StatusCode::NOT_FOUND, "there is no such call now; GET /v1/calls lists them")
}

impl CallView {
    fn new(summary: CallSummary, statistics: Option<StreamStatistics>, figures: Option<AiFigures>) -> Self {
        Self {
            id: summary.id,
            call_id: summary.call_id,
            call_sid: summary.call_sid,
            app: summary.app,
            agent: summary.agent,
            via: summary.via.name(),
            state: summary.state.name(),
            from: summary.from,
            to: summary.to,
            since: rfc_3339(summary.since),
            answered: summary.answered.map(rfc_3339),
            duration_ms: summary.since.elapsed().map_or(0, |elapsed| elapsed.as_millis() as u64),
            codec: summary.codec.map(Codec::name),
            remote_sip: summary.remote_sip.map(|address| address.to_string()),
            remote_rtp: summary.remote_rtp.map(|address| address.to_string()),
            local_rtp: summary.local_rtp.map(|address| address.to_string()),
            media: statistics.map(|statistics| MediaView::new(&statistics)),
            ai: figures.map(|figures| AiView::new(&figures)),
        }
    }
}

impl MediaView {
    fn new(statistics: &StreamStatistics) -> Self {
        Self {
            received_packets: statistics.received_packets,
            received_bytes: statistics.received_bytes,
            lost_packets: statistics.lost_packets,
            duplicate_packets: statistics.duplicate_packets,
            reordered_packets: statistics.reordered_packets,
            late_packets: statistics.late_packets,
            refused_packets: statistics.refused_packets,
            stranger_packets: statistics.stranger_packets,
            jitter_ms: milliseconds(statistics.jitter),
            round_trip_ms: statistics.round_trip.map(milliseconds),
            sent_packets: statistics.sent_packets,
            sent_bytes: statistics.sent_bytes,
            remote_lost_packets: statistics.remote_lost_packets,
            remote_jitter_ms: milliseconds(statistics.remote_jitter),
            concealed_frames: statistics.concealed_frames,
            jitter_buffer_ms: milliseconds(statistics.jitter_buffer),
            digits_received: statistics.digits_received,
            digits_inband: statistics.digits_inband,
            digits_repeated: statistics.digits_repeated,
        }
    }
}

/// `2026-11-21T10:43:00.123Z`, RFC 3339 in UTC.
fn rfc_3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of so many days after 1970-01-01.
pub(super) fn date(days: u64) -> (u64, u64, u64) {
    // Days to a date of the Gregorian calendar, counted in eras of 400 years that begin in March, so that
    // the leap day is the last of a year.
    let from_march = days + 719_468;
    let (era, day_of_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc_3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn id_has_one_spelling() {
        assert_eq!(parse_id("12"), Some(12));
        for bad in ["", "+1", "01", " 1", "1 ", "-1", "99999999999999999999", "1/2", "x"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }
}
