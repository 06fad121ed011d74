-- What requests used. A row is a part of a request's event: nearly always there is one, part 0. Every
-- further part holds what came after the parts before it, so that sums over all rows are exact.
CREATE TABLE events (
    request_id TEXT NOT NULL,
    part BIGINT NOT NULL,
    -- When it ended, or, where its end is not known, when it was admitted: microseconds since the epoch.
    time_us BIGINT NOT NULL,
    account TEXT NOT NULL,
    -- Empty: the anonymous preview.
    key_name TEXT NOT NULL,
    plan TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    -- 1: the answer was streamed.
    stream BIGINT NOT NULL,
    price_version TEXT NOT NULL,
    -- The life of the worker that produced the tokens, 16 hexadecimal digits; empty: none did.
    worker_instance TEXT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_nanodollars BIGINT NOT NULL,
    status BIGINT NOT NULL,
    code TEXT NOT NULL,
    admitted_us BIGINT NOT NULL,
    ended_us BIGINT NOT NULL,
    first_token_us BIGINT NOT NULL,
    stored_us BIGINT NOT NULL,
    PRIMARY KEY (request_id, part)
);
CREATE INDEX events_by_time ON events (time_us);

-- The prices that events were charged by, in nano-dollars per token.
CREATE TABLE prices (
    plan TEXT NOT NULL,
    version TEXT NOT NULL,
    input BIGINT NOT NULL,
    cached_input BIGINT NOT NULL,
    output BIGINT NOT NULL,
    first_seen_us BIGINT NOT NULL,
    PRIMARY KEY (plan, version)
);

-- Sums of events by the hour (its first second since the epoch), kept in the same transactions.
CREATE TABLE usage_hours (
    hour BIGINT NOT NULL,
    account TEXT NOT NULL,
    key_name TEXT NOT NULL,
    plan TEXT NOT NULL,
    model TEXT NOT NULL,
    requests BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_nanodollars BIGINT NOT NULL,
    PRIMARY KEY (hour, account, key_name, plan, model)
);

-- Sums of events by the life of the worker that produced the tokens.
CREATE TABLE workers (
    instance TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    requests BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    last_us BIGINT NOT NULL
);

-- Entries that could not be read, byte for byte, under the SHA-256 of what they hold.
CREATE TABLE dead_letters (
    digest TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    part TEXT NOT NULL,
    event BYTEA NOT NULL,
    billed BYTEA NOT NULL,
    stored_us BIGINT NOT NULL
);
