-- Functions that callers register under a name, and their scripts. A list reads no script, so those have a table of their own.
GRANT USAGE ON SCHEMA meta TO controller;

CREATE TABLE meta.functions (
    -- LANGUAGE-TITLE in ASCII, sorted by its bytes.
    language_title text COLLATE "C" PRIMARY KEY CHECK (length(language_title) BETWEEN 3 AND 128),
    language text NOT NULL,
    -- The X-User-ID that registered it and alone may replace or remove it.
    owner text NOT NULL,
    -- Counts the scripts that it has had.
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX functions_by_language ON meta.functions (language, language_title);
CREATE INDEX functions_by_owner ON meta.functions (owner);

CREATE TABLE meta.scripts (
    language_title text COLLATE "C" PRIMARY KEY REFERENCES meta.functions ON DELETE CASCADE,
    -- UTF-8. Not text, which cannot hold U+0000.
    content bytea NOT NULL,
    size_bytes bigint NOT NULL GENERATED ALWAYS AS (octet_length(content)) STORED,
    sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(content)) STORED
);

GRANT SELECT, INSERT, UPDATE, DELETE ON meta.functions, meta.scripts TO controller;
