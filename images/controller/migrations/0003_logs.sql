-- A row for each request, and another for each that was answered with an error. No scripts, contexts, params, results or messages.
-- By month in UTC: `lambda-controller maintain` makes the partitions and drops old ones.
CREATE TABLE meta.request_logs (
    at timestamptz NOT NULL,
    -- Of this row: one that was sent twice, because the answer to the first was lost, is there once.
    id uuid NOT NULL,
    request_id uuid,
    trace_id text NOT NULL,
    span_id text NOT NULL,
    route text NOT NULL,
    method text NOT NULL,
    -- Null where the caller went away before the answer.
    status smallint,
    outcome text NOT NULL,
    duration_ms double precision NOT NULL,
    user_id text,
    language text,
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX request_logs_by_request_id ON meta.request_logs (request_id);

CREATE TABLE meta.error_logs (
    at timestamptz NOT NULL,
    id uuid NOT NULL,
    request_id uuid,
    trace_id text NOT NULL,
    span_id text NOT NULL,
    route text NOT NULL,
    status smallint NOT NULL,
    code text NOT NULL,
    cause text,
    user_id text,
    language text,
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX error_logs_by_request_id ON meta.error_logs (request_id);

GRANT INSERT ON meta.request_logs, meta.error_logs TO controller;
