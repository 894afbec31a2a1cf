//! Which Host header is ours. A page that a browser got from elsewhere may make its own name point to this
//! machine (DNS rebinding); its requests then carry that name, and are refused.

use std::net::IpAddr;

/// The names that are allowed besides addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub(super) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a Host header (RFC 9110 section 7.2) names us.
    pub(super) fn allows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost"
            || name.parse::<IpAddr>().is_ok()
            || self.0.iter().any(|allowed| allowed == "*" || *allowed == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_listed_names_are_ours() {
        let hosts = AllowedHosts::new(&["Voice.Example.com".to_owned()]);
        for good in
            ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "voice.example.com:80", "192.0.2.1"]
        {
            assert!(hosts.allows(good), "{good}");
        }
        for bad in
            ["evil.example.com", "", "127.0.0.1.evil.example.com", "localhost.evil.example.com:8080", "[x]"]
        {
            assert!(!hosts.allows(bad), "{bad}");
        }
    }

    #[test]
    fn star_allows_every_name() {
        assert!(AllowedHosts::new(&["*".to_owned()]).allows("any.example.com"));
    }
}
