//! What is counted at the gate.

xdp::counters! {
    /// Who was let in, and who was not.
    pub struct AccessCounters {
        admitted: "Requests with a good token",
        missing: "Requests without a token",
        refused_malformed: "Tokens that are neither a key nor a JSON Web Token",
        refused_keys: "Keys that are not known, revoked, expired, or of a tenant that is not active",
        refused_tokens: "JSON Web Tokens that are forged, expired, for others, or say too little",
        refused_tenants: "Good tokens of a tenant that is not known or not active",
        throttled: "Requests refused because too many bad tokens came from the same address",
        unavailable: "Tokens that could not be checked because the store or the keys' server did not answer",
        key_sets_fetched: "Times that the keys for JSON Web Tokens were read again",
        key_sets_failed: "Times that they could not be",
    }
}
