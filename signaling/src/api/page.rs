//! Lists by pages: each names the cursor of the next one.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;

/// A part of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is in this part.
    pub(crate) items: Vec<T>,
    /// The `cursor` of the next part; absent in the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub(crate) next: Option<String>,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The most items to answer with.
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Option<u32>,
    /// `next` of the part before; its form may change.
    #[param(max_length = 512)]
    pub(crate) cursor: Option<String>,
}

impl Paging {
    /// How many items to answer with.
    ///
    /// # Errors
    /// A limit that is none.
    pub(crate) fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(100) {
            limit @ 1..=500 => Ok(limit as usize),
            _ => Err(Problem::invalid("limit", "must be 1 to 500")),
        }
    }

    /// How many rows to ask the store for: one more than are shown, to know whether there are more.
    ///
    /// # Errors
    /// A limit that is none.
    pub(crate) fn rows(&self) -> Result<i64, Problem> {
        self.limit().map(|limit| i64::try_from(limit).unwrap_or(500) + 1)
    }

    /// The key of the last item that was shown.
    ///
    /// # Errors
    /// A cursor that is none of ours.
    pub(crate) fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let key = (cursor.len() <= LONGEST_CURSOR)
            .then(|| BASE64_URL_SAFE_NO_PAD.decode(cursor).ok())
            .flatten()
            .filter(|bytes| !bytes.windows(6).any(|window| window == br"\u0000"))
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match key {
            Some(key) => Ok(Some(key)),
            None => Err(Problem::invalid("cursor", "is not the `next` of an answer of this list")),
        }
    }

    /// The page of `rows`, which are up to [`Self::rows`] in order; `key` tells where an item stands in it.
    ///
    /// # Errors
    /// A limit that is none.
    pub(crate) fn page<T, K: Serialize>(
        &self,
        mut rows: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, Problem> {
        let limit = self.limit()?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last() {
            Some(last) if more => {
                let key = serde_json::to_vec(&key(last)).map_err(Problem::internal)?;
                Some(BASE64_URL_SAFE_NO_PAD.encode(key))
            }
            _ => None,
        };
        Ok(Page { items: rows, next })
    }
}

const LONGEST_CURSOR: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_any_size_have_every_item_once() {
        for limit in [1, 2, 3, 7, 10, 11] {
            let (mut seen, mut paging) = (Vec::new(), Paging { limit: Some(limit), cursor: None });
            loop {
                let after: Option<i64> = paging.after().expect("our own cursor");
                let first = after.map_or(0, |after| after + 1);
                let rows =
                    (first..10).take(usize::try_from(paging.rows().expect("rows")).expect("few")).collect();
                let page = paging.page(rows, |row: &i64| *row).expect("a page");
                seen.extend(page.items);
                let Some(next) = page.next else { break };
                paging.cursor = Some(next);
            }
            assert_eq!(seen, (0..10).collect::<Vec<i64>>(), "limit {limit}");
        }
    }

    #[test]
    fn strange_limits_and_cursors_are_named() {
        for limit in [0, 501, u32::MAX] {
            assert!(Paging { limit: Some(limit), cursor: None }.rows().is_err());
        }
        for cursor in ["", "x", "ä", "bm9uZQ", &"A".repeat(600), &BASE64_URL_SAFE_NO_PAD.encode("[1]")] {
            let paging = Paging { limit: None, cursor: Some(cursor.to_owned()) };
            assert!(paging.after::<i64>().is_err(), "{cursor}");
        }
    }
}
