-- What happened, written in the transaction of what it tells about. Whoever delivers reads what has no `taken_at`, hands it on,
-- and sets it; what has one is deleted after a while. Ids are ordered by time, though not strictly by the end of transactions.
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    time BIGINT NOT NULL,
    subject TEXT NOT NULL,
    data TEXT NOT NULL,
    taken_at BIGINT
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE taken_at IS NULL;
CREATE INDEX outbox_taken ON outbox (taken_at) WHERE taken_at IS NOT NULL;
CREATE INDEX outbox_subject ON outbox (tenant, subject);

-- Small facts about the store itself, such as a known text that was sealed with the key in use.
CREATE TABLE store_facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
