-- What sessions there are. The sessions themselves, with script and context, are in Redis alone.
CREATE TABLE meta.sessions (
    request_id uuid PRIMARY KEY,
    language text NOT NULL,
    language_title text NOT NULL,
    user_id text,
    -- Of a registered function; null where the caller brought the script.
    function_version bigint,
    script_size_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_expiry ON meta.sessions (expires_at);

GRANT SELECT, INSERT ON meta.sessions TO controller;
