//! From a SIP URI to addresses, best first (RFC 3263 4, RFC 2782).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::incoming::Transport;
use super::message::Uri;

/// One address of a target, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    /// The name that a certificate has to be for: that of the URI, whatever DNS made of it (RFC 5922 7.2).
    pub(super) name: String,
}

/// Which addresses can be reached from our sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    fn hold(self, ip: IpAddr) -> bool {
        if ip.is_ipv6() { self.v6 } else { self.v4 }
    }
}

/// Asks DNS, and remembers for as long as DNS allows, and who has not answered of late.
pub(super) struct Resolver {
    /// `None` where the system has no configuration for DNS: then only the system itself is asked for addresses.
    dns: Option<TokioResolver>,
    /// Whether the system may be asked for what DNS does not know.
    with_system: bool,
    failed: Mutex<Vec<(SocketAddr, Transport, Instant)>>,
}

impl Resolver {
    /// Without `servers`, those of the system.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio().ok()
        } else {
            let servers = servers.iter().map(|server| {
                let at = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
                NameServerConfig::new(server.ip(), true, connections)
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            Some(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        };
        let dns = builder.and_then(|mut builder| {
            limit(builder.options_mut());
            builder.build().ok()
        });
        Self { dns, with_system: servers.is_empty(), failed: Mutex::default() }
    }

    /// The addresses of a URI, at most 16, those that failed of late last. Empty when there are none in time.
    pub(super) async fn resolve(
        &self,
        uri: &Uri,
        transport: Option<Transport>,
        families: Families,
    ) -> Vec<Hop> {
        let found = tokio::time::timeout(PATIENCE, self.find(uri, transport, families)).await;
        let mut hops = found.unwrap_or_default();
        hops.retain(|hop| families.hold(hop.address.ip()));
        hops.truncate(MOST_HOPS);
        self.failed_last(&mut hops, Instant::now());
        hops
    }

    /// An address did not answer: others are tried first for a while (RFC 3263 4.3).
    pub(super) fn note_failure(&self, hop: &Hop, now: Instant) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|(address, transport, until)| {
            *until > now && (*address, *transport) != (hop.address, hop.transport)
        });
        if failed.len() < MOST_FAILED {
            failed.push((hop.address, hop.transport, now + PENALTY));
        }
    }

    /// It answers again.
    pub(super) fn note_success(&self, hop: &Hop) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|(address, transport, _)| (*address, *transport) != (hop.address, hop.transport));
    }

    fn failed_last(&self, hops: &mut [Hop], now: Instant) {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        hops.sort_by_key(|hop| {
            failed.iter().any(|(address, transport, until)| {
                (*address, *transport) == (hop.address, hop.transport) && *until > now
            })
        });
    }

    async fn find(&self, uri: &Uri, transport: Option<Transport>, families: Families) -> Vec<Hop> {
        let host = uri.param("maddr").filter(|host| !host.is_empty()).unwrap_or(&uri.host);
        let host = host.trim_matches(['[', ']']);
        let asked = transport;
        let transport = transport.unwrap_or(Transport::Udp);
        let hop = |ip: IpAddr, port: Option<u16>, transport: Transport| Hop {
            address: SocketAddr::new(ip, port.unwrap_or_else(|| default_port(transport))),
            transport,
            name: uri.host.clone(),
        };
        // RFC 3263 4.2: a numeric address and a port leave nothing to ask for but addresses.
        if let Ok(ip) = host.parse::<IpAddr>() {
            return vec![hop(ip, uri.port, transport)];
        }
        if uri.port.is_some() {
            let addresses = self.addresses(host, families).await;
            return addresses.into_iter().map(|ip| hop(ip, uri.port, transport)).collect();
        }
        // Most names have addresses only: they are asked for at the same time.
        let (services, addresses) =
            tokio::join!(self.services(host, asked, uri.scheme == "sips"), self.addresses(host, families));
        let Some(services) = services else {
            return addresses.into_iter().map(|ip| hop(ip, None, transport)).collect();
        };
        let mut hops = Vec::new();
        for Service { target, port, transport } in services.into_iter().take(MOST_TARGETS) {
            let addresses = self.addresses(&target, families).await;
            hops.extend(addresses.into_iter().map(|ip| hop(ip, Some(port), transport)));
        }
        hops
    }

    /// RFC 3263 4.1: which transports, by NAPTR or by trying, and their servers in order. `None` when DNS says nothing of
    /// services.
    async fn services(&self, host: &str, transport: Option<Transport>, secure: bool) -> Option<Vec<Service>> {
        if let Some(transport) = transport {
            return self.servers(&service_name(host, transport), transport).await;
        }
        let mut found: Option<Vec<Service>> = None;
        for (name, transport) in self.transports(host).await {
            if secure && transport != Transport::Tls {
                continue;
            }
            if let Some(servers) = self.servers(&name, transport).await {
                found.get_or_insert_default().extend(servers);
            }
        }
        if found.is_some() {
            return found;
        }
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            if secure && transport != Transport::Tls {
                continue;
            }
            let servers = self.servers(&service_name(host, transport), transport).await;
            if servers.is_some() {
                return servers;
            }
        }
        None
    }

    /// NAPTR records with flag `s` for SIP, in order.
    async fn transports(&self, host: &str) -> Vec<(String, Transport)> {
        let mut rules = Vec::new();
        for data in self.records(host, RecordType::NAPTR).await {
            let RData::NAPTR(naptr) = data else { continue };
            let transport = match &*naptr.services.to_ascii_uppercase() {
                b"SIP+D2U" => Transport::Udp,
                b"SIP+D2T" => Transport::Tcp,
                b"SIPS+D2T" => Transport::Tls,
                _ => continue,
            };
            if naptr.flags.eq_ignore_ascii_case(b"s") {
                rules.push((naptr.order, naptr.preference, naptr.replacement.to_utf8(), transport));
            }
        }
        rules.sort_by_key(|(order, preference, ..)| (*order, *preference));
        rules.into_iter().take(3).map(|(_, _, name, transport)| (name, transport)).collect()
    }

    /// SRV records in the order in which to try them; `None` when there are none. One with the target `.` says that there
    /// is no such service.
    async fn servers(&self, name: &str, transport: Transport) -> Option<Vec<Service>> {
        let mut records = Vec::new();
        for data in self.records(name, RecordType::SRV).await {
            if let RData::SRV(srv) = data {
                records.push(Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: srv.target.to_utf8(),
                });
            }
        }
        if records.is_empty() {
            return None;
        }
        let ordered = in_order(records, super::core::random);
        let service = |Srv { target, port, .. }| Service { target, port, transport };
        Some(ordered.into_iter().filter(|srv| srv.target != "." && srv.port != 0).map(service).collect())
    }

    async fn addresses(&self, host: &str, families: Families) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        if self.dns.is_some() {
            let of = |wanted: bool, kind| async move {
                if wanted { self.records(host, kind).await } else { Vec::new() }
            };
            let (v4, v6) = tokio::join!(of(families.v4, RecordType::A), of(families.v6, RecordType::AAAA));
            addresses.extend(v4.into_iter().chain(v6).filter_map(|data| match data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            }));
        }
        if addresses.is_empty() && self.with_system {
            // What the system knows besides DNS.
            let looked_up = tokio::net::lookup_host((host.trim_end_matches('.'), 0)).await;
            addresses.extend(looked_up.into_iter().flatten().map(|address| address.ip()));
        }
        addresses.dedup();
        addresses.truncate(MOST_HOPS);
        addresses
    }

    async fn records(&self, name: &str, kind: RecordType) -> Vec<RData> {
        let Some(dns) = &self.dns else { return Vec::new() };
        let Ok(mut name) = Name::from_utf8(name) else { return Vec::new() };
        // A name with a dot is whole; one without is completed as the system says.
        if name.num_labels() > 1 {
            name.set_fqdn(true);
        }
        match dns.lookup(name, kind).await {
            Ok(lookup) => {
                lookup.answers().iter().map(|record| record.data.clone()).take(MOST_RECORDS).collect()
            }
            Err(_) => Vec::new(),
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("dns", &self.dns.is_some()).finish_non_exhaustive()
    }
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    target: String,
    port: u16,
    transport: Transport,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Srv {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

/// RFC 2782: by priority, and among equals at random, as often first as the weight says.
fn in_order(mut records: Vec<Srv>, mut random: impl FnMut() -> u64) -> Vec<Srv> {
    records.truncate(MOST_RECORDS);
    // Those without weight come first, so that they have their small chance.
    records.sort_by_key(|srv| (srv.priority, srv.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|srv| srv.priority) {
        let equals = records.iter().take_while(|srv| srv.priority == priority).count();
        let total: u64 = records.iter().take(equals).map(|srv| u64::from(srv.weight)).sum();
        let mut draw = random() % (total + 1);
        let mut chosen = 0;
        for (index, srv) in records.iter().take(equals).enumerate() {
            chosen = index;
            match draw.checked_sub(u64::from(srv.weight)) {
                Some(left) if left > 0 => draw = left,
                _ => break,
            }
        }
        ordered.push(records.remove(chosen));
    }
    ordered
}

fn service_name(host: &str, transport: Transport) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    };
    format!("{service}.{host}")
}

/// RFC 3261 19.1.2.
fn default_port(transport: Transport) -> u16 {
    if transport == Transport::Tls { 5061 } else { 5060 }
}

fn limit(options: &mut ResolverOpts) {
    options.timeout = Duration::from_secs(2);
    options.attempts = 1;
    options.cache_size = CACHE;
    options.positive_max_ttl = Some(Duration::from_secs(3600));
    options.negative_max_ttl = Some(Duration::from_secs(30));
    options.try_tcp_on_error = true;
}

/// All questions together.
const PATIENCE: Duration = Duration::from_secs(6);
const CACHE: u64 = 4096;
const MOST_HOPS: usize = 16;
const MOST_TARGETS: usize = 8;
const MOST_RECORDS: usize = 32;
const MOST_FAILED: usize = 1024;
/// How long an address that did not answer stands behind the others.
const PENALTY: Duration = Duration::from_secs(30);

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
