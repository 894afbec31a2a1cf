//! The first key of an installation.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::key::{NewKey, Text};
use crate::model::{Access, Role, TenantId};
use crate::store::{Store, StoreError};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum FirstKeyError {
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// The key that the first start makes.
#[derive(Debug)]
pub struct FirstKey {
    /// The key.
    pub text: Text,
    /// The file that it was written to, for nobody but the user that this process runs as; or why not.
    pub file: Result<PathBuf, std::io::Error>,
}

/// Makes a key for an admin if there has never been any key, and writes it to `admin-token` in `data_dir`.
///
/// # Errors
/// The store is down.
pub async fn first_key(store: &Store, data_dir: &Path) -> Result<Option<FirstKey>, FirstKeyError> {
    if store.has_keys().await? {
        return Ok(None);
    }
    let text = new_key(store, TenantId::default(), Role::Admin, "made at the first start", None).await?;
    let path = data_dir.join(FILE);
    let file = write(&path, text.expose()).map(|()| path);
    Ok(Some(FirstKey { text, file }))
}

/// Makes a key on the store directly, for who has access to that.
///
/// # Errors
/// The store is down, or there is no such tenant.
pub async fn new_key(
    store: &Store,
    tenant: TenantId,
    role: Role,
    name: &str,
    lifetime: Option<Duration>,
) -> Result<Text, FirstKeyError> {
    let by = Access { subject: "sidetone".to_owned(), tenant: tenant.clone(), role: Role::Admin };
    let new = NewKey::make(tenant, role, name.to_owned(), &by, lifetime)?;
    new.keep(store).await?;
    Ok(new.text)
}

fn write(path: &Path, text: &str) -> Result<(), std::io::Error> {
    // An old file might be open to others.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

const FILE: &str = "admin-token";
