//! Names that nobody else has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Moment;

/// A UUID of version 7 (RFC 9562 section 5.7): later ones sort behind earlier ones, as text, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = String, format = Uuid)]
#[serde(transparent)]
pub struct Id(Uuid);

impl Id {
    /// One that was never there before.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "two of them are never equal")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The first one that could have been made at that time, to compare others with.
    #[must_use]
    pub fn earliest(moment: Moment) -> Self {
        let millis = u64::try_from(moment.micros() / 1000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

impl FromStr for Id {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ids_sort_behind_earlier_ones_as_text() {
        let ids: Vec<String> = (0..1_000).map(|_| Id::new().to_string()).collect();
        assert!(ids.is_sorted_by(|one, two| one < two));
        assert_eq!(ids[0].parse::<Id>().map(|id| id.to_string()).as_ref(), Ok(&ids[0]));
        assert!("x".parse::<Id>().is_err());
        let before = Id::earliest(Moment::now().before(std::time::Duration::from_secs(1)));
        let after = Id::earliest(Moment::now().after(std::time::Duration::from_secs(1)));
        assert!(before.to_string() < ids[0] && ids[999] < after.to_string());
    }
}
