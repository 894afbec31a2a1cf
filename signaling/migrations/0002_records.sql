-- One row per leg of a call, from its INVITE on. `boot` is the life of the process that has the leg; a row without `ended_at`
-- whose life is over belongs to a leg that was interrupted.
CREATE TABLE records (
    id TEXT PRIMARY KEY,
    call TEXT NOT NULL,
    tenant TEXT NOT NULL,
    direction TEXT NOT NULL,
    state TEXT NOT NULL,
    sip_call_id TEXT NOT NULL,
    from_number TEXT NOT NULL,
    to_number TEXT NOT NULL,
    trunk_id TEXT,
    provider TEXT,
    route TEXT,
    app TEXT,
    agent TEXT,
    started_at BIGINT NOT NULL,
    ringing_at BIGINT,
    answered_at BIGINT,
    ended_at BIGINT,
    duration_ms BIGINT,
    codec TEXT,
    remote_sip TEXT,
    remote_rtp TEXT,
    quality TEXT,
    ai TEXT,
    recording TEXT,
    hangup_cause TEXT,
    hangup_status BIGINT,
    hangup_q850 BIGINT,
    hangup_side TEXT,
    cost DOUBLE PRECISION,
    attempts TEXT NOT NULL,
    variables TEXT NOT NULL,
    boot TEXT NOT NULL
);
CREATE INDEX records_newest ON records (tenant, started_at, id);
CREATE INDEX records_call ON records (call);
CREATE INDEX records_trunk ON records (tenant, trunk_id, started_at) WHERE trunk_id IS NOT NULL;
CREATE INDEX records_open ON records (boot) WHERE ended_at IS NULL;

-- The lives of processes that write records. `node` is the same in all lives of one installation.
CREATE TABLE boots (
    boot TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
