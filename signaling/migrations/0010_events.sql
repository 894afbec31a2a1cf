-- Events get their place in the order of delivery by one writer at a time, after their transactions have ended: whoever
-- reads by place misses none, which cannot be said of ids. `event_cursors` is how far each reader is; its row `outbox`
-- is the last place that was given.
ALTER TABLE outbox ADD COLUMN position BIGINT;
CREATE UNIQUE INDEX outbox_position ON outbox (position) WHERE position IS NOT NULL;
CREATE INDEX outbox_tenant_position ON outbox (tenant, position);

CREATE TABLE event_cursors (
    sink TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);
INSERT INTO event_cursors (sink, position, lease_owner, lease_until) VALUES ('outbox', 0, '', 0);
