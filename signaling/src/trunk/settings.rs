//! From a request to a trunk that can be used, or to what is wrong with its fields.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{
    AuthMethod, FieldError, Moment, NewTrunk, Secret, TenantId, Trunk, TrunkPatch, TrunkTransport,
};

/// What a change does to the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordChange {
    /// It stays as it is.
    Keep,
    /// There is none any more.
    Remove,
    /// It is this one.
    Set(Secret),
}

/// The trunk that `new` asks for.
///
/// # Errors
/// Everything that is wrong, by field.
pub fn create(
    tenant: &TenantId,
    new: NewTrunk,
    now: Moment,
) -> Result<(Trunk, PasswordChange), Vec<FieldError>> {
    let mut errors = Vec::new();
    let trunk_id = new.trunk_id.clone();
    if let Err(detail) = check_id(&trunk_id) {
        errors.push(FieldError::new("trunk_id", detail));
    }
    let patch = TrunkPatch::from(new);
    let trunk = Trunk {
        name: trunk_id.clone(),
        provider: trunk_id.clone(),
        trunk_id,
        tenant: tenant.clone(),
        proxy_address: String::new(),
        proxy_port: None,
        outbound_proxy: None,
        transport: TrunkTransport::Udp,
        username: None,
        has_password: false,
        realm: None,
        auth_user: None,
        from_user: None,
        from_domain: None,
        display_name: None,
        supports_inbound: true,
        supports_outbound: true,
        register: false,
        register_expires_s: 3600,
        preferred_codecs: Vec::new(),
        max_concurrent_calls: 100,
        calls_per_second_limit: 10,
        allowed_ips: Vec::new(),
        auth_method: AuthMethod::Ip,
        backup_trunks: Vec::new(),
        options_ping_s: 0,
        cost_per_minute: 0.0,
        active: false,
        created_at: now,
        updated_at: now,
    };
    let by_address = patch.auth_method == Some(AuthMethod::Ip);
    let wanted = patch.register;
    let changed = apply(trunk, patch, &mut errors, |trunk| {
        let can = !by_address && trunk.username.is_some() && trunk.has_password;
        trunk.register = wanted.unwrap_or(can);
    });
    if errors.is_empty() { Ok(changed) } else { Err(errors) }
}

/// `trunk` with the changes of `patch`.
///
/// # Errors
/// Everything that is wrong, by field.
pub fn change(
    trunk: &Trunk,
    patch: TrunkPatch,
    now: Moment,
) -> Result<(Trunk, PasswordChange), Vec<FieldError>> {
    let mut errors = Vec::new();
    if patch.trunk_id.as_ref().is_some_and(|given| *given != trunk.trunk_id) {
        errors.push(FieldError::new("trunk_id", "a trunk keeps its name; make a new one"));
    }
    let mut changed = apply(trunk.clone(), patch, &mut errors, |_| {});
    // Other nodes see by it that there is something new, so it has to go on.
    changed.0.updated_at = now.max(trunk.updated_at.after(Duration::from_micros(1)));
    if errors.is_empty() { Ok(changed) } else { Err(errors) }
}

fn apply(
    mut trunk: Trunk,
    patch: TrunkPatch,
    errors: &mut Vec<FieldError>,
    settle: impl FnOnce(&mut Trunk),
) -> (Trunk, PasswordChange) {
    let mut checked = Checked { errors };
    checked.text("name", patch.name, &mut trunk.name, line);
    checked.text("provider", patch.provider, &mut trunk.provider, label);
    checked.text("proxy_address", patch.proxy_address, &mut trunk.proxy_address, host);
    checked.maybe("proxy_port", patch.proxy_port, &mut trunk.proxy_port, |port| match port {
        0 => Err("0 is no port; leave it out to let DNS decide".to_owned()),
        port => Ok(port),
    });
    checked.maybe("outbound_proxy", patch.outbound_proxy, &mut trunk.outbound_proxy, proxy);
    checked.set(patch.transport, &mut trunk.transport);
    checked.maybe("username", patch.username, &mut trunk.username, sip_user);
    checked.maybe("realm", patch.realm, &mut trunk.realm, line);
    checked.maybe("auth_user", patch.auth_user, &mut trunk.auth_user, line);
    checked.maybe("from_user", patch.from_user, &mut trunk.from_user, sip_user);
    checked.maybe("from_domain", patch.from_domain, &mut trunk.from_domain, host);
    checked.maybe("display_name", patch.display_name, &mut trunk.display_name, line);
    checked.set(patch.supports_inbound, &mut trunk.supports_inbound);
    checked.set(patch.supports_outbound, &mut trunk.supports_outbound);
    checked.set(patch.register, &mut trunk.register);
    checked.number("register_expires_s", patch.register_expires_s, &mut trunk.register_expires_s, 30, 86_400);
    checked.list("preferred_codecs", patch.preferred_codecs, &mut trunk.preferred_codecs, 16, codec);
    checked.number(
        "max_concurrent_calls",
        patch.max_concurrent_calls,
        &mut trunk.max_concurrent_calls,
        1,
        100_000,
    );
    checked.number(
        "calls_per_second_limit",
        patch.calls_per_second_limit,
        &mut trunk.calls_per_second_limit,
        1,
        10_000,
    );
    checked.list("allowed_ips", patch.allowed_ips, &mut trunk.allowed_ips, 64, network);
    checked.set(patch.auth_method, &mut trunk.auth_method);
    let own = trunk.trunk_id.clone();
    checked.list("backup_trunks", patch.backup_trunks, &mut trunk.backup_trunks, 16, |id| {
        check_id(&id)?;
        if id == own { Err("a trunk is no backup of itself".to_owned()) } else { Ok(id) }
    });
    if let Some(seconds) = patch.options_ping_s {
        let least = if seconds == 0 { 0 } else { 5 };
        checked.number("options_ping_s", Some(seconds), &mut trunk.options_ping_s, least, 3600);
    }
    if let Some(cost) = patch.cost_per_minute {
        if cost.is_finite() && (0.0..=1e6).contains(&cost) {
            trunk.cost_per_minute = cost;
        } else {
            checked.error("cost_per_minute", "must be a number from 0 to 1000000");
        }
    }
    checked.set(patch.active, &mut trunk.active);
    let password = match patch.password {
        None => PasswordChange::Keep,
        Some(None) => PasswordChange::Remove,
        Some(Some(secret)) => match password(secret.reveal()) {
            Ok(()) => PasswordChange::Set(secret),
            Err(detail) => {
                checked.error("password", detail);
                PasswordChange::Keep
            }
        },
    };
    match password {
        PasswordChange::Keep => {}
        PasswordChange::Remove => trunk.has_password = false,
        PasswordChange::Set(_) => trunk.has_password = true,
    }
    settle(&mut trunk);
    if trunk.register && trunk.username.is_none() {
        checked.error("username", "missing; needed to register");
    }
    if trunk.auth_method.wants_password() && !trunk.has_password {
        checked.error("password", "missing; needed by auth_method digest and both");
    }
    if trunk.auth_method.wants_password() && trunk.username.is_none() && trunk.auth_user.is_none() {
        checked.error("username", "missing; needed by auth_method digest and both");
    }
    (trunk, password)
}

/// Collects what is wrong.
struct Checked<'a> {
    errors: &'a mut Vec<FieldError>,
}

impl Checked<'_> {
    fn error(&mut self, field: &str, detail: impl Into<String>) {
        if !self.errors.iter().any(|error| error.field == field) {
            self.errors.push(FieldError::new(field, detail));
        }
    }

    fn set<T>(&mut self, given: Option<T>, place: &mut T) {
        if let Some(value) = given {
            *place = value;
        }
    }

    fn text<T>(
        &mut self,
        field: &str,
        given: Option<T>,
        place: &mut T,
        check: impl Fn(T) -> Result<T, String>,
    ) {
        match given.map(check) {
            None => {}
            Some(Ok(value)) => *place = value,
            Some(Err(detail)) => self.error(field, detail),
        }
    }

    fn maybe<T>(
        &mut self,
        field: &str,
        given: Option<Option<T>>,
        place: &mut Option<T>,
        check: impl Fn(T) -> Result<T, String>,
    ) {
        match given {
            None => {}
            Some(None) => *place = None,
            Some(Some(value)) => match check(value) {
                Ok(value) => *place = Some(value),
                Err(detail) => self.error(field, detail),
            },
        }
    }

    fn number(&mut self, field: &str, given: Option<u32>, place: &mut u32, least: u32, most: u32) {
        match given {
            Some(value) if (least..=most).contains(&value) => *place = value,
            Some(_) => self.error(field, format!("must be {least} to {most}")),
            None => {}
        }
    }

    fn list<T: PartialEq>(
        &mut self,
        field: &str,
        given: Option<Vec<String>>,
        place: &mut Vec<T>,
        most: usize,
        check: impl Fn(String) -> Result<T, String>,
    ) {
        let Some(given) = given else { return };
        if given.len() > most {
            return self.error(field, format!("has {} entries; {most} are allowed", given.len()));
        }
        let mut values = Vec::with_capacity(given.len());
        for (index, value) in given.into_iter().enumerate() {
            match check(value) {
                Ok(value) if values.contains(&value) => {}
                Ok(value) => values.push(value),
                Err(detail) => self.error(&format!("{field}[{index}]"), detail),
            }
        }
        *place = values;
    }
}

/// A trunk's name.
fn check_id(id: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
        return Err("must be 1 to 64 letters, digits, `_`, `-` and `.`".to_owned());
    }
    if ["status", "stats", ".", ".."].contains(&id) {
        return Err(format!("`{id}` is taken by a path of the API"));
    }
    Ok(())
}

/// Text for people.
fn line(text: String) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > 128 {
        return Err("must be 1 to 128 characters".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("must have no control characters".to_owned());
    }
    Ok(text)
}

/// The value of a label.
fn label(text: String) -> Result<String, String> {
    let text = line(text)?;
    if text.chars().count() > 64 { Err("must be 1 to 64 characters".to_owned()) } else { Ok(text) }
}

/// RFC 3261 25.1, user, without what would have to be escaped.
fn sip_user(text: String) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()&=+$,;?/".contains(c);
    if text.is_empty() || text.len() > 128 || !text.chars().all(plain) {
        return Err(
            "must be 1 to 128 characters that a SIP user may have; `@` and what is behind it belong to \
                    from_domain"
                .to_owned(),
        );
    }
    Ok(text)
}

fn host(text: String) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text);
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(&text);
    if text.len() > 253 || !name.split('.').all(label) {
        return Err("must be a host name or an address, without `sip:` and without a port".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

/// `host`, `host:port`, `[v6]:port` or a SIP URI without a user.
fn proxy(text: String) -> Result<String, String> {
    let wrong = || "must be `host`, `host:port` or a SIP URI such as `sip:proxy.example.com;lr`".to_owned();
    let rest = ["sip:", "sips:"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(&text);
    let (place, parameters) = rest.split_once(';').unwrap_or((rest, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=;".contains(c);
    if text.len() > 255 || !parameters.chars().all(plain) {
        return Err(wrong());
    }
    let bare = place.parse::<IpAddr>().is_ok() || place.parse::<std::net::SocketAddr>().is_ok();
    let named = || {
        let (name, port) = place.split_once(':').unwrap_or((place, "5060"));
        host(name.to_owned()).is_ok() && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let v6 = || {
        let inner = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    if bare || v6() || named() { Ok(text) } else { Err(wrong()) }
}

fn codec(text: String) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    if text.is_empty() || text.len() > 32 || !text.chars().all(plain) {
        return Err("must be the name of an encoding, such as `PCMU`".to_owned());
    }
    Ok(text.to_ascii_uppercase())
}

fn network(text: String) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "must be an address or a network such as `198.51.100.0/24`".to_owned())?;
    Ok(network.trunc())
}

fn password(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return Err(
            "must be 1 to 256 bytes without control characters; `null` removes the password".to_owned()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
