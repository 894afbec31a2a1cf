-- Receivers of webhooks. `kinds` is empty for all, or names between spaces with one at each end. Secrets are sealed.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    kinds TEXT NOT NULL,
    secret TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    disabled_reason TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX webhooks_tenant ON webhooks (tenant, id);

-- Receivers of one call's events, by the subject that these have.
CREATE TABLE call_webhooks (
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    url TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, subject)
);
CREATE INDEX call_webhooks_created ON call_webhooks (created_at);

-- What signs the webhooks of single calls, per tenant; sealed.
CREATE TABLE webhook_secrets (
    tenant TEXT PRIMARY KEY,
    secret TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- An event on its way to a receiver, or given up (`dead`); gone when it was taken. `endpoint` is a webhook's id, or a
-- name for a URL of calls, which is in `url` then.
CREATE TABLE webhook_deliveries (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    url TEXT,
    event TEXT NOT NULL,
    position BIGINT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    last_status BIGINT,
    last_error TEXT,
    dead_at BIGINT
);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (endpoint, position) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_lanes ON webhook_deliveries (endpoint, subject, position) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_created ON webhook_deliveries (created_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (tenant, id) WHERE state = 'dead';
CREATE INDEX webhook_deliveries_dead_at ON webhook_deliveries (dead_at) WHERE state = 'dead';
