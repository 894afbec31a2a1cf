//! `sidetone token`: a token for the API, for who can read the configuration and write to the store.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use signaling::access;
use signaling::config::Plan;
use signaling::model::{Access, Role, TenantId};
use signaling::store::Store;

use crate::cli::TokenFlags;

/// Makes one and prints it, alone, on standard output.
pub(crate) fn run(plan: &Plan, flags: &TokenFlags) -> ExitCode {
    match make(plan, flags) {
        Ok(token) => {
            println!("{token}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make(plan: &Plan, flags: &TokenFlags) -> Result<String> {
    let role = Role::named(&flags.role).with_context(|| {
        let known: Vec<_> = Role::ALL.into_iter().map(Role::name).collect();
        format!("--role {}: known are {}", flags.role, known.join(", "))
    })?;
    let tenant = TenantId::named(&flags.tenant).with_context(|| format!("--tenant: {}", TenantId::FORM))?;
    let length = Duration::from_secs(3600);
    let lifetime = flags.hours.map(|hours| length * hours);
    if let Some(user) = &flags.jwt {
        let Some(secret) = &plan.access.signing_secret else {
            bail!("--jwt: no secret to sign with; set access.jwt_secret_env or access.jwt_secret_file")
        };
        let who = Access { subject: user.clone(), tenant, role };
        let seconds = lifetime.unwrap_or(length).as_secs();
        return Ok(access::sign(secret.expose().as_bytes(), &plan.access.rules, &who, seconds)?);
    }
    std::fs::create_dir_all(&plan.data_dir)
        .with_context(|| format!("cannot make the data folder {}", plan.data_dir.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&plan.store).await?;
        if store.tenant(&tenant).await?.is_none() {
            bail!("--tenant {tenant}: there is no such tenant; add it with POST /api/tenants");
        }
        let text = access::new_key(&store, tenant, role, &flags.name, lifetime).await?;
        store.close().await;
        Ok(text.expose().to_owned())
    })
}
