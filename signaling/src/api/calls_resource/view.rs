//! A call as Twilio's libraries read it.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::api::calls::date;
use crate::call::{CallState, CallSummary};

/// The call resource. What we do not know is `null`.
pub(super) fn call(summary: &CallSummary, account: &str) -> Value {
    let sid = summary.call_sid.as_deref().unwrap_or_default();
    let created = rfc_2822(summary.since);
    json!({
        "sid": sid,
        "account_sid": account,
        "api_version": "2010-04-01",
        "direction": "inbound",
        "status": status(summary.state),
        "from": summary.from,
        "from_formatted": summary.from,
        "to": summary.to,
        "to_formatted": summary.to,
        "date_created": created,
        "date_updated": created,
        "start_time": summary.answered.map(rfc_2822),
        "end_time": null,
        "duration": null,
        "parent_call_sid": null,
        "phone_number_sid": null,
        "price": null,
        "price_unit": null,
        "answered_by": null,
        "annotation": null,
        "forwarded_from": null,
        "group_sid": null,
        "caller_name": null,
        "queue_time": null,
        "trunk_sid": null,
        "uri": format!("/2010-04-01/Accounts/{account}/Calls/{sid}.json"),
        "subresource_uris": {},
    })
}

const fn status(state: CallState) -> &'static str {
    match state {
        CallState::Ringing => "ringing",
        CallState::Answered | CallState::Held => "in-progress",
        CallState::Ending => "completed",
    }
}

/// `Sat, 21 Nov 2026 10:43:00 +0000`, RFC 2822 in UTC.
fn rfc_2822(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = seconds / 86_400;
    let (year, month, day) = date(days);
    let weekday = DAYS.get((days % 7) as usize).copied().unwrap_or_default();
    let month = MONTHS.get(month.saturating_sub(1) as usize).copied().unwrap_or_default();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_2822() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_257_780, "Sat, 21 Nov 2026 10:43:00 +0000"),
        ] {
            assert_eq!(rfc_2822(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
