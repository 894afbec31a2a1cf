//! The numbers and routes of tenants as they are now, kept in memory between changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::{Event, TenantId};
use crate::routing::RoutingTable;
use crate::store::{Store, StoreError, Transaction};

/// The numbers and routes of tenants. What another process changes is seen within a second.
#[derive(Clone, Debug)]
pub struct Directory {
    store: Store,
    tables: Arc<Mutex<HashMap<TenantId, Known>>>,
}

#[derive(Clone, Debug)]
struct Known {
    table: Arc<RoutingTable>,
    version: i64,
    looked: Instant,
}

impl Directory {
    /// Of this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, tables: Arc::default() }
    }

    /// A tenant's. If the store is down, those that were known before hold.
    ///
    /// # Errors
    /// The store cannot be read and nothing is known.
    pub async fn of(&self, tenant: &TenantId) -> Result<Arc<RoutingTable>, StoreError> {
        let known = self.lock().get(tenant).cloned();
        if let Some(known) = &known
            && known.looked.elapsed() < FRESH
        {
            return Ok(Arc::clone(&known.table));
        }
        match (self.look(tenant, known.as_ref()).await, known) {
            (Ok(table), _) => Ok(table),
            (Err(error), Some(known)) => {
                tracing::debug!(%error, "routes are those of before");
                Ok(known.table)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Forgets what is known of a tenant: it was changed here.
    pub fn forget(&self, tenant: &TenantId) {
        self.lock().remove(tenant);
    }

    /// A change of the store.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.store.begin().await
    }

    /// Tells what happened.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        let mut transaction = self.store.begin().await?;
        transaction.emit(event).await?;
        transaction.commit().await
    }

    async fn look(&self, tenant: &TenantId, known: Option<&Known>) -> Result<Arc<RoutingTable>, StoreError> {
        // Before the rest: what changes meanwhile is seen the next time.
        let version = self.store.routing_version(tenant).await?;
        let table = match known.filter(|known| known.version == version) {
            Some(known) => Arc::clone(&known.table),
            None => {
                let all = self.store.tenant_routing(tenant).await?;
                let (table, errors) = RoutingTable::new(all.numbers, all.routes, all.default_trunk);
                for (route, error) in errors {
                    tracing::warn!(%tenant, route, %error, "a route cannot be used");
                }
                Arc::new(table)
            }
        };
        let mut tables = self.lock();
        if tables.len() >= MOST_TENANTS && !tables.contains_key(tenant) {
            tables.clear();
        }
        tables.insert(tenant.clone(), Known { table: Arc::clone(&table), version, looked: Instant::now() });
        Ok(table)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Known>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long nothing is asked of the store.
const FRESH: Duration = Duration::from_secs(1);
/// Tenants whose routes are kept in memory.
const MOST_TENANTS: usize = 10_000;
