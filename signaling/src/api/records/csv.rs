//! Records as CSV.

use ::csv::Writer;

use crate::model::{CallRecord, Direction, HangUpSide, RecordState};

/// Lines of CSV, with names above if they are the first ones.
pub(super) fn write(records: &[CallRecord], with_names: bool) -> Vec<u8> {
    let mut writer = Writer::from_writer(Vec::with_capacity(records.len() * 512 + 512));
    // Writing to memory does not fail, and all lines are of one length.
    if with_names {
        let _ = writer.write_record(NAMES);
    }
    for record in records {
        let _ = writer.write_record(line(record));
    }
    writer.into_inner().unwrap_or_default()
}

fn line(record: &CallRecord) -> [String; NAMES.len()] {
    let text = |text: &Option<String>| text.as_deref().map(guarded).unwrap_or_default();
    let quality = record.quality.as_ref();
    [
        record.id.to_string(),
        record.call.to_string(),
        Direction::name(record.direction).to_owned(),
        RecordState::name(record.state).to_owned(),
        guarded(&record.sip_call_id),
        guarded(&record.from_number),
        guarded(&record.to_number),
        text(&record.trunk_id),
        text(&record.provider),
        text(&record.route),
        text(&record.app),
        text(&record.agent),
        record.started_at.to_string(),
        shown(record.ringing_at),
        shown(record.answered_at),
        shown(record.ended_at),
        shown(record.duration_ms),
        text(&record.codec),
        text(&record.remote_sip),
        text(&record.remote_rtp),
        shown(quality.map(|quality| quality.received_packets)),
        shown(quality.map(|quality| quality.lost_packets)),
        shown(quality.map(|quality| quality.sent_packets)),
        shown(quality.map(|quality| quality.jitter_ms)),
        shown(quality.and_then(|quality| quality.round_trip_ms)),
        shown(quality.and_then(|quality| quality.mos)),
        text(&record.recording),
        text(&record.hangup_cause),
        shown(record.hangup_status),
        shown(record.hangup_q850),
        shown(record.hangup_side.map(HangUpSide::name)),
        shown(record.cost),
        record.attempts.len().to_string(),
    ]
}

fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Spreadsheets calculate what begins like a formula, whoever wrote it. A number in its international form is harmless.
fn guarded(text: &str) -> String {
    let is_number = text
        .strip_prefix('+')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '|', '%']) && !is_number {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

const NAMES: [&str; 33] = [
    "id",
    "call",
    "direction",
    "state",
    "sip_call_id",
    "from_number",
    "to_number",
    "trunk_id",
    "provider",
    "route",
    "app",
    "agent",
    "started_at",
    "ringing_at",
    "answered_at",
    "ended_at",
    "duration_ms",
    "codec",
    "remote_sip",
    "remote_rtp",
    "received_packets",
    "lost_packets",
    "sent_packets",
    "jitter_ms",
    "round_trip_ms",
    "mos",
    "recording",
    "hangup_cause",
    "hangup_status",
    "hangup_q850",
    "hangup_side",
    "cost",
    "attempts",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TenantId;

    #[test]
    fn no_cell_is_a_formula_and_every_cell_comes_back() {
        for (text, cell) in [
            ("+4930123456", "+4930123456"),
            ("+4930=1", "'+4930=1"),
            ("=HYPERLINK(\"http://example.com\")", "'=HYPERLINK(\"http://example.com\")"),
            ("-1+1", "'-1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("+", "'+"),
            ("a,b\"c\r\nd", "a,b\"c\r\nd"),
            ("", ""),
        ] {
            let record = CallRecord {
                from_number: text.to_owned(),
                ..CallRecord::new(TenantId::default(), Direction::Inbound)
            };
            let bytes = write(std::slice::from_ref(&record), true);
            let mut reader = ::csv::Reader::from_reader(&*bytes);
            let at = reader.headers().expect("names").iter().position(|name| name == "from_number");
            let line = reader.records().next().expect("a line").expect("well formed");
            assert_eq!(line.get(at.expect("the name")), Some(cell), "{text}");
        }
    }
}
