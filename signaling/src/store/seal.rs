//! Secrets at rest: passwords are sealed with a key that is not in the database.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a random nonce. Table and row are additional data, so that a sealed password that is copied
//! to another row does not open there.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use zeroize::Zeroizing;

use super::{Store, StoreError, values};

/// Seals and opens secrets.
pub struct SecretKey {
    cipher: ChaCha20Poly1305,
    origin: String,
}

/// What is wrong with the secret key.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    /// The file cannot be read or made.
    #[error(
        "the secret key {path} cannot be read or made: {reason}; set store.secret_key_file or SIDETONE_SECRET_KEY"
    )]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not a key.
    #[error("the secret key of {0} must be 32 bytes in base64; make one with: openssl rand -base64 32")]
    Form(String),
    /// Others may read it.
    #[error("others may read the secret key {0}; run: chmod 600 {0}")]
    Open(PathBuf),
    /// What is in the store was sealed with another one.
    #[error(
        "the secret key of {0} is not the one that this store's passwords were sealed with; bring back that key"
    )]
    Wrong(String),
    /// What was sealed does not open.
    #[error("a sealed {0} does not open: it was changed, or moved from another row; enter it again")]
    Sealed(String),
    /// No randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl SecretKey {
    /// From the text, else from the file, else from `data_dir/secret.key`, which is made if it is not there.
    ///
    /// # Errors
    /// There is none, or it is not a key.
    pub fn load(text: Option<&str>, file: Option<&Path>, data_dir: &Path) -> Result<Self, SecretKeyError> {
        if let Some(text) = text {
            return Self::parse(text, "SIDETONE_SECRET_KEY".to_owned());
        }
        let (path, is_ours) =
            file.map_or_else(|| (data_dir.join("secret.key"), true), |file| (file.to_owned(), false));
        let failed =
            |error: std::io::Error| SecretKeyError::File { path: path.clone(), reason: error.to_string() };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound && is_ours => {
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *key).map_err(SecretKeyError::Random)?;
                let text = Zeroizing::new(BASE64.encode(*key));
                // Complete or not there at all, and never over one that another process has just made.
                let draft = path.with_extension(format!("key.{}", std::process::id()));
                let mut made = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&draft)
                    .map_err(failed)?;
                made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).map_err(failed)?;
                let linked = std::fs::hard_link(&draft, &path);
                let _ = std::fs::remove_file(&draft);
                match linked {
                    Ok(()) => text,
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        Zeroizing::new(std::fs::read_to_string(&path).map_err(failed)?)
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(error) => return Err(failed(error)),
        };
        let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(SecretKeyError::Open(path));
        }
        Self::parse(&text, path.display().to_string())
    }

    fn parse(text: &str, origin: String) -> Result<Self, SecretKeyError> {
        let bytes = BASE64.decode(text.trim()).map(Zeroizing::new).unwrap_or_default();
        let cipher = ChaCha20Poly1305::new_from_slice(&bytes);
        match cipher {
            Ok(cipher) => Ok(Self { cipher, origin }),
            Err(_) => Err(SecretKeyError::Form(origin)),
        }
    }

    /// Seals `secret` for a column of that row, such as `trunks.password` and the trunk's id with its tenant.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn seal(&self, column: &str, row: &str, secret: &str) -> Result<String, SecretKeyError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SecretKeyError::Random)?;
        let place = place(column, row);
        let payload = Payload { msg: secret.as_bytes(), aad: place.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload);
        // It fails only beyond 256 GiB.
        let mut sealed = sealed.map_err(|_| SecretKeyError::Sealed(column.to_owned()))?;
        sealed.splice(0..0, nonce);
        Ok(format!("{VERSION}{}", BASE64.encode(sealed)))
    }

    /// Opens what [`SecretKey::seal`] has made for the same column and row.
    ///
    /// # Errors
    /// It was changed, belongs elsewhere, or was sealed with another key.
    pub fn open(&self, column: &str, row: &str, sealed: &str) -> Result<Zeroizing<String>, SecretKeyError> {
        let failed = || SecretKeyError::Sealed(column.to_owned());
        let bytes =
            sealed.strip_prefix(VERSION).and_then(|text| BASE64.decode(text).ok()).ok_or_else(failed)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(failed)?;
        let place = place(column, row);
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let secret = self.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| failed())?;
        String::from_utf8(secret).map(Zeroizing::new).map_err(|_| failed())
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SecretKey").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Store {
    /// Whether the secret key is the one of the first start.
    pub(super) async fn check_key(&self) -> Result<(), StoreError> {
        let sealed = self.key.seal(CHECK, CHECK, CHECK)?;
        self.run(
            "INSERT INTO store_facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            values![CHECK, sealed],
        )
        .await?;
        let row = self.row("SELECT value FROM store_facts WHERE name = $1", values![CHECK]).await?;
        let kept: Option<String> = row.map(|row| row.get("value")).transpose()?;
        match kept.map(|kept| self.key.open(CHECK, CHECK, &kept)) {
            Some(Ok(_)) => Ok(()),
            _ => Err(SecretKeyError::Wrong(self.key.origin.clone()).into()),
        }
    }
}

/// No column has a NUL in its name.
fn place(column: &str, row: &str) -> String {
    format!("{column}\0{row}")
}

const NONCE_BYTES: usize = 12;
/// What begins every sealed secret, for the day when another cipher comes.
const VERSION: &str = "1:";
/// The name of the text that tells one key from another.
const CHECK: &str = "secret key";

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_sealed_secret_opens_only_where_it_was_sealed() {
        let key = SecretKey::load(None, None, folder().path()).expect("a key");
        let sealed = key.seal("trunks.password", "default/one", "geheim\u{0}").expect("sealed");
        assert!(!sealed.contains("geheim"));
        assert_ne!(sealed, key.seal("trunks.password", "default/one", "geheim\u{0}").expect("sealed"));
        let open =
            |column, row, sealed: &str| key.open(column, row, sealed).ok().map(|secret| secret.to_string());
        assert_eq!(open("trunks.password", "default/one", &sealed).as_deref(), Some("geheim\u{0}"));
        assert_eq!(open("trunks.password", "default/two", &sealed), None);
        assert_eq!(open("webhooks.secret", "default/one", &sealed), None);
        for broken in ["", "1:", "1:AAAA", "2:x", &sealed[..sealed.len() - 4], "geheim"] {
            assert_eq!(open("trunks.password", "default/one", broken), None, "{broken}");
        }
        let other = SecretKey::load(None, None, folder().path()).expect("a key");
        assert!(matches!(
            other.open("trunks.password", "default/one", &sealed),
            Err(SecretKeyError::Sealed(_))
        ));
    }

    #[test]
    fn the_key_is_made_once_and_for_nobody_else() {
        let folder = folder();
        let sealed = SecretKey::load(None, None, folder.path()).and_then(|key| key.seal("a", "b", "c"));
        let again = SecretKey::load(None, None, folder.path()).expect("the same key");
        assert_eq!(*again.open("a", "b", &sealed.expect("sealed")).expect("opens"), "c");
        let path = folder.path().join("secret.key");
        let mode =
            |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        mode(0o644);
        assert!(matches!(SecretKey::load(None, None, folder.path()), Err(SecretKeyError::Open(_))));
        assert!(!format!("{again:?}").contains(&std::fs::read_to_string(&path).expect("text")));
        std::fs::write(&path, "short").expect("written");
        mode(0o600);
        assert!(matches!(SecretKey::load(None, None, folder.path()), Err(SecretKeyError::Form(_))));
        let absent = folder.path().join("absent");
        assert!(matches!(
            SecretKey::load(None, Some(&absent), folder.path()),
            Err(SecretKeyError::File { .. })
        ));
        let text = BASE64.encode([7; 32]);
        assert!(SecretKey::load(Some(&text), Some(&absent), folder.path()).is_ok());
    }
}
