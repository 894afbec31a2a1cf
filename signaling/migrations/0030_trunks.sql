-- The carriers and switches of each tenant. The password is sealed; lists are JSON.
CREATE TABLE trunks (
    tenant TEXT NOT NULL,
    trunk_id TEXT NOT NULL,
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    proxy_address TEXT NOT NULL,
    proxy_port BIGINT,
    outbound_proxy TEXT,
    transport TEXT NOT NULL,
    username TEXT,
    password TEXT,
    realm TEXT,
    auth_user TEXT,
    from_user TEXT,
    from_domain TEXT,
    display_name TEXT,
    supports_inbound BOOLEAN NOT NULL,
    supports_outbound BOOLEAN NOT NULL,
    register BOOLEAN NOT NULL,
    register_expires_s BIGINT NOT NULL,
    preferred_codecs TEXT NOT NULL,
    max_concurrent_calls BIGINT NOT NULL,
    calls_per_second_limit BIGINT NOT NULL,
    allowed_ips TEXT NOT NULL,
    auth_method TEXT NOT NULL,
    backup_trunks TEXT NOT NULL,
    options_ping_s BIGINT NOT NULL,
    cost_per_minute DOUBLE PRECISION NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, trunk_id)
);
CREATE INDEX trunks_active ON trunks (active, tenant, trunk_id);
CREATE INDEX trunks_updated ON trunks (updated_at);

-- How each stands, written by the node that keeps it registered. A node holds a trunk until `held_until`, and renews that;
-- what nobody holds any more is taken over by any other.
CREATE TABLE trunk_states (
    tenant TEXT NOT NULL,
    trunk_id TEXT NOT NULL,
    node TEXT,
    held_until BIGINT NOT NULL,
    state TEXT NOT NULL,
    since BIGINT NOT NULL,
    cause TEXT,
    expires_s BIGINT,
    ping TEXT NOT NULL,
    ping_ms DOUBLE PRECISION,
    PRIMARY KEY (tenant, trunk_id)
);
CREATE INDEX trunk_states_held ON trunk_states (held_until);
