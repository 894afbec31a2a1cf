-- Tenants. What belongs to one names it in a column `tenant`.
CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
INSERT INTO tenants (id, name, active, created_at, changed_at) VALUES ('default', 'Default', TRUE, 0, 0);

-- API keys. Of the secret only SHA-256 is kept: it is random and long, nobody can guess it from that.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX api_keys_of_tenant ON api_keys (tenant, id);

-- Every change that was made through the API, written in the transaction of the change. Secrets are left out.
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    time BIGINT NOT NULL,
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    source TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    before TEXT,
    after TEXT
);
CREATE INDEX audit_of_tenant ON audit (tenant, id);

-- Answers of requests with an Idempotency-Key, for repetitions. `status` is NULL while the first one runs; then nobody else may
-- run it before `lease_until`. The body is sealed: it may hold a secret that is shown once.
CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    status BIGINT,
    headers TEXT,
    body TEXT,
    PRIMARY KEY (tenant, subject, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
