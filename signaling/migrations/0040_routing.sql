-- What dialled numbers reach. `number` is without spaces and the like.
CREATE TABLE numbers (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    number TEXT NOT NULL,
    prefix BOOLEAN NOT NULL,
    destination TEXT NOT NULL,
    description TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (tenant, number, prefix)
);
CREATE INDEX numbers_by_id ON numbers (tenant, id);

-- Which trunks carry which numbers. `trunks`, `caller_id` and `advance_on` are JSON.
CREATE TABLE outbound_routes (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    priority BIGINT NOT NULL,
    pattern TEXT NOT NULL,
    rewrite TEXT,
    caller_id TEXT,
    trunks TEXT NOT NULL,
    strategy TEXT NOT NULL,
    advance_on TEXT NOT NULL,
    setup_timeout_ms BIGINT NOT NULL,
    ring_timeout_ms BIGINT NOT NULL,
    description TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (tenant, name)
);
CREATE INDEX outbound_routes_by_id ON outbound_routes (tenant, id);

-- One row per tenant: the trunk for what no route carries, and a version that grows with every change of the above,
-- so that every process notices changes of others.
CREATE TABLE tenant_routing (
    tenant TEXT PRIMARY KEY,
    default_trunk TEXT,
    version BIGINT NOT NULL
);
