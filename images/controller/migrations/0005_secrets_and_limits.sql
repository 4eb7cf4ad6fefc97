-- Owners' secrets, encrypted, and what a version of a function has beside its time and environment.
CREATE TABLE meta.secrets (
    owner text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    -- Which of the platform's keys wraps the data key. That key itself is never here.
    key_id text NOT NULL,
    -- Each a nonce of 24 bytes and what XChaCha20-Poly1305 makes, bound to owner and name.
    wrapped_key bytea NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, name)
);
-- Whether a key wraps any is asked at each change.
CREATE INDEX secrets_by_key ON meta.secrets (key_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON meta.secrets TO controller;

ALTER TABLE meta.function_versions
    ADD COLUMN memory_bytes bigint CHECK (memory_bytes > 0),
    ADD COLUMN max_concurrency integer CHECK (max_concurrency > 0),
    -- Names of the owner's, sorted. They may be removed there.
    ADD COLUMN secrets text[] NOT NULL DEFAULT '{}';

-- As before, with what is new.
CREATE OR REPLACE FUNCTION meta.version_of_script() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    SELECT f.function_id, f.version, v.content, v.timeout_ms, v.memory_bytes, v.max_concurrency, v.secrets, v.environment
    INTO known
    FROM meta.functions f LEFT JOIN meta.function_versions v USING (function_id, version)
    WHERE f.language_title = NEW.language_title;
    IF known.content IS NULL THEN
        INSERT INTO meta.function_versions (function_id, version, content)
        VALUES (known.function_id, known.version, NEW.content);
    ELSIF known.content <> NEW.content THEN
        INSERT INTO meta.function_versions
            (function_id, version, content, timeout_ms, memory_bytes, max_concurrency, secrets, environment)
        VALUES (known.function_id, known.version + 1, NEW.content, known.timeout_ms, known.memory_bytes,
                known.max_concurrency, known.secrets, known.environment);
    END IF;
    RETURN NULL;
END $$;
