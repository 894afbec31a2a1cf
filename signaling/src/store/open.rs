//! Finding the database, and bringing its schema up to date.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Database, SecretKey, Store, StoreError};

/// Where the store is.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:FILE`, or `postgres://user:password@host/name`.
    pub url: String,
    /// What a FILE that is no absolute path is relative to, and where the secret key is made.
    pub data_dir: PathBuf,
    /// Connections to a PostgreSQL server.
    pub connections: u32,
    /// A file with the secret key; `data_dir/secret.key` if `None`.
    pub secret_key_file: Option<PathBuf>,
    /// The secret key itself, from the environment.
    pub secret_key: Option<zeroize::Zeroizing<String>>,
}

impl StoreConfig {
    /// The embedded database below `data_dir`.
    #[must_use]
    pub fn embedded(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            url: DEFAULT_URL.to_owned(),
            data_dir: data_dir.into(),
            connections: 8,
            secret_key_file: None,
            secret_key: None,
        }
    }

    /// Where the store is, without a password.
    #[must_use]
    pub fn place(&self) -> String {
        match self.url.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                format!("{scheme}://{}", host.split('?').next().unwrap_or_default())
            }
            None => self.url.split('?').next().unwrap_or_default().to_owned(),
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StoreConfig").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, makes it if it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// It cannot be opened, was changed by a newer version, or the secret key is not the one that it was made with.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let failed =
            |error: sqlx::Error| StoreError::Open { place: config.place(), reason: error.to_string() };
        let database = if let Some(file) = config.url.strip_prefix("sqlite:") {
            let file = config.data_dir.join(file.trim_start_matches("//"));
            open_sqlite(&file).await.map_err(|error| match error {
                StoreError::Database(error) => failed(error),
                error => error,
            })?
        } else if config.url.starts_with("postgres:") || config.url.starts_with("postgresql:") {
            let options = PgConnectOptions::from_str(&config.url)
                .map_err(|error| StoreError::Url(error.to_string()))?
                .application_name("sidetone")
                .options([("statement_timeout", STATEMENT_TIMEOUT), ("lock_timeout", LOCK_TIMEOUT)]);
            let pool = PgPoolOptions::new()
                .max_connections(config.connections.max(2))
                .acquire_timeout(PATIENCE)
                .connect_with(options)
                .await
                .map_err(failed)?;
            // An advisory lock keeps two that start at once from each other.
            migrate(&MIGRATIONS, &pool).await?;
            Database::Postgres(pool)
        } else {
            let scheme = config.url.split(':').next().unwrap_or_default();
            return Err(StoreError::Url(format!("{scheme:?} is no kind of database that is known")));
        };
        let key = SecretKey::load(
            config.secret_key.as_deref().map(String::as_str),
            config.secret_key_file.as_deref(),
            &config.data_dir,
        )?;
        let store = Self { database, key: Arc::new(key) };
        store.check_key().await?;
        Ok(store)
    }
}

async fn open_sqlite(file: &Path) -> Result<Database, StoreError> {
    let open = |error: std::io::Error| StoreError::Open {
        place: file.display().to_string(),
        reason: error.to_string(),
    };
    // Numbers and names are nobody else's business.
    let made =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(file).map_err(open)?;
    drop(made);
    let options = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit is on the disk, even when the power fails.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        // Under 64 MiB after a burst.
        .pragma("journal_size_limit", "67108864")
        .optimize_on_close(true, None);
    let pool = |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
    let writer = pool(1).connect_with(options.clone()).await?;
    {
        // SQLite's migrations have no lock of their own.
        let lock = file.with_extension("migrating");
        let lock = File::create(lock).map_err(open)?;
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
        let lock = lock.await.map_err(std::io::Error::other).and_then(|lock| lock).map_err(open)?;
        migrate(&MIGRATIONS, &writer).await?;
        drop(lock);
    }
    let readers = pool(4).connect_with(options).await?;
    Ok(Database::Sqlite { writer, readers })
}

/// Brings a schema up to date.
pub(super) async fn migrate<'a, A>(migrations: &Migrator, database: A) -> Result<(), StoreError>
where
    A: sqlx::Acquire<'a>,
    <A::Connection as std::ops::Deref>::Target: sqlx::migrate::Migrate,
{
    migrations.run(database).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::Newer(version),
        error => StoreError::Migration(error.to_string()),
    })
}

/// Everything in `signaling/migrations`, in the order of the numbers.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Relative to the data folder.
const DEFAULT_URL: &str = "sqlite:sidetone.db";
/// How long to wait for a connection, and for other processes that write.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nothing here takes long; what does would hold up calls.
const STATEMENT_TIMEOUT: &str = "10s";
const LOCK_TIMEOUT: &str = "5s";
