//! Requests that may come twice.

use std::time::Duration;

use super::{Store, StoreError, values};
use crate::model::{Access, Moment};

/// A request that names a key.
#[derive(Clone, Debug)]
pub struct KeyedRequest {
    /// Who sent it; other people's keys are other keys.
    pub access: Access,
    /// The key.
    pub key: String,
    /// A digest of everything that makes it the same request.
    pub digest: String,
}

/// What is known of a keyed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is ours to run, until the lease that was taken ends.
    New,
    /// Somebody runs it now.
    Running,
    /// The key was used for another request.
    Other,
    /// It was run.
    Done(KeptAnswer),
}

/// An answer for repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Headers that belong to it.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Store {
    /// Takes the request if nobody else has: it must be finished, or given up, within `lease`.
    ///
    /// # Errors
    /// The database is down.
    pub async fn take_request(&self, request: &KeyedRequest, lease: Duration) -> Result<Known, StoreError> {
        let (now, access) = (Moment::now(), &request.access);
        let taken = self
            .run(
                // An old key, or one whose runner died, is as good as new. One of another request is not touched.
                "INSERT INTO idempotency (tenant, subject, key, request, created_at, lease_until) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, subject, key) DO UPDATE SET \
                 request = excluded.request, created_at = excluded.created_at, lease_until = excluded.lease_until, \
                 status = NULL, headers = NULL, body = NULL \
                 WHERE idempotency.created_at < $7 OR (idempotency.status IS NULL AND idempotency.lease_until < $5 \
                 AND idempotency.request = $4)",
                values![
                    &access.tenant,
                    &access.subject,
                    &request.key,
                    &request.digest,
                    now,
                    now.after(lease),
                    now.before(KEPT_FOR),
                ],
            )
            .await?;
        if taken > 0 {
            return Ok(Known::New);
        }
        let row = self
            .row(
                "SELECT request, status, headers, body FROM idempotency WHERE tenant = $1 AND subject = $2 AND key = $3",
                values![&access.tenant, &access.subject, &request.key],
            )
            .await?;
        // Given up between the two: whoever asks again will find that.
        let Some(row) = row else { return Ok(Known::Running) };
        if row.get::<String>("request")? != request.digest {
            return Ok(Known::Other);
        }
        let Some(status) = row.optional::<u16>("status")? else { return Ok(Known::Running) };
        let body = self.secret_key().open(COLUMN, &place(request), &row.get::<String>("body")?)?.to_string();
        Ok(Known::Done(KeptAnswer { status, headers: row.json("headers")?, body }))
    }

    /// Keeps the answer of a request that was taken.
    ///
    /// # Errors
    /// The database is down.
    pub async fn finish_request(
        &self,
        request: &KeyedRequest,
        answer: &KeptAnswer,
    ) -> Result<(), StoreError> {
        let access = &request.access;
        let body = self.secret_key().seal(COLUMN, &place(request), &answer.body)?;
        self.run(
            "UPDATE idempotency SET status = $4, headers = $5, body = $6 \
             WHERE tenant = $1 AND subject = $2 AND key = $3 AND request = $7",
            values![
                &access.tenant,
                &access.subject,
                &request.key,
                answer.status,
                super::json(&answer.headers),
                body,
                &request.digest,
            ],
        )
        .await
        .map(drop)
    }

    /// Forgets a request that was taken: it changed nothing, and may be sent again.
    ///
    /// # Errors
    /// The database is down.
    pub async fn give_up_request(&self, request: &KeyedRequest) -> Result<(), StoreError> {
        let access = &request.access;
        self.run(
            "DELETE FROM idempotency WHERE tenant = $1 AND subject = $2 AND key = $3 AND request = $4 AND status IS NULL",
            values![&access.tenant, &access.subject, &request.key, &request.digest],
        )
        .await
        .map(drop)
    }

    /// Forgets up to a thousand old requests; returns how many.
    ///
    /// # Errors
    /// The database is down.
    pub async fn forget_old_requests(&self) -> Result<u64, StoreError> {
        let oldest = Moment::now().before(KEPT_FOR);
        self.run(
            "DELETE FROM idempotency WHERE (tenant, subject, key) IN \
             (SELECT tenant, subject, key FROM idempotency WHERE created_at < $1 LIMIT 1000)",
            values![oldest],
        )
        .await
    }
}

fn place(request: &KeyedRequest) -> String {
    format!("{}\0{}\0{}", request.access.tenant, request.access.subject, request.key)
}

const COLUMN: &str = "idempotency.body";
/// How long an answer is kept for repetitions.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
