-- Versions that never change, aliases of them, names that belong to their owner, and who may use a function.
--
-- Replicas of the build before serve meanwhile, and come back with a rollback: meta.functions and meta.scripts stay what they
-- read and write, a row a name with its newest script. Triggers make versions, and remember removed names, of what they do.
-- What that build does not know it does not hold back: the visibility of functions.
LOCK TABLE meta.functions, meta.scripts IN ACCESS EXCLUSIVE MODE;

-- A function that holds its plain name has that as its key, any other OWNER/NAME; a name has no slash.
ALTER TABLE meta.functions
    ALTER COLUMN owner TYPE text COLLATE "C",
    DROP CONSTRAINT functions_language_title_check,
    ADD CONSTRAINT functions_language_title_check CHECK (length(language_title) BETWEEN 3 AND 257),
    ADD COLUMN function_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (regexp_replace(language_title, '^.*/', '')) STORED,
    ADD COLUMN visibility text NOT NULL DEFAULT 'shared' CHECK (visibility IN ('private', 'shared', 'callers')),
    -- With `callers`: who sees it beside its owner.
    ADD COLUMN callers text[] NOT NULL DEFAULT '{}';
-- Lists go on after a name and an owner: of all, of one language, of one owner.
DROP INDEX meta.functions_by_language, meta.functions_by_owner;
CREATE UNIQUE INDEX functions_by_name ON meta.functions (name, owner);
CREATE INDEX functions_by_language ON meta.functions (language, name, owner);
CREATE INDEX functions_by_owner ON meta.functions (owner, name);

CREATE TABLE meta.function_versions (
    function_id bigint NOT NULL REFERENCES meta.functions (function_id) ON DELETE CASCADE,
    version bigint NOT NULL CHECK (version > 0),
    -- UTF-8, as in meta.scripts.
    content bytea NOT NULL,
    size_bytes bigint NOT NULL GENERATED ALWAYS AS (octet_length(content)) STORED,
    sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(content)) STORED,
    timeout_ms bigint CHECK (timeout_ms > 0),
    -- An object of texts. Not jsonb, which cannot hold U+0000.
    environment text NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (function_id, version)
);

CREATE TABLE meta.function_aliases (
    function_id bigint NOT NULL REFERENCES meta.functions (function_id) ON DELETE CASCADE,
    alias text COLLATE "C" NOT NULL CHECK (length(alias) BETWEEN 1 AND 63),
    version bigint NOT NULL,
    -- In percent; those of an alias add up to 100.
    weight smallint NOT NULL CHECK (weight BETWEEN 1 AND 100),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (function_id, alias, version),
    -- A version that an alias names stays.
    FOREIGN KEY (function_id, version) REFERENCES meta.function_versions
);

-- Whose a plain name stays for a while after its function was removed.
CREATE TABLE meta.removed_functions (
    name text COLLATE "C" PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX removed_functions_by_owner ON meta.removed_functions (owner, removed_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON meta.function_versions, meta.function_aliases, meta.removed_functions TO controller;

INSERT INTO meta.function_versions (function_id, version, content, created_at)
SELECT f.function_id, f.version, s.content, f.updated_at FROM meta.functions f JOIN meta.scripts s USING (language_title);

-- The build before writes the script first and counts the version then. A build that knows versions has written them before.
CREATE FUNCTION meta.version_of_script() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    SELECT f.function_id, f.version, v.content, v.timeout_ms, v.environment INTO known
    FROM meta.functions f LEFT JOIN meta.function_versions v USING (function_id, version)
    WHERE f.language_title = NEW.language_title;
    IF known.content IS NULL THEN
        INSERT INTO meta.function_versions (function_id, version, content)
        VALUES (known.function_id, known.version, NEW.content);
    ELSIF known.content <> NEW.content THEN
        INSERT INTO meta.function_versions (function_id, version, content, timeout_ms, environment)
        VALUES (known.function_id, known.version + 1, NEW.content, known.timeout_ms, known.environment);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER version_of_script AFTER INSERT OR UPDATE OF content ON meta.scripts
    FOR EACH ROW EXECUTE FUNCTION meta.version_of_script();

CREATE FUNCTION meta.remember_removed_function() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO meta.removed_functions (name, owner) VALUES (OLD.name, OLD.owner)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, removed_at = excluded.removed_at;
    RETURN NULL;
END $$;
CREATE TRIGGER remember_removed_function AFTER DELETE ON meta.functions
    FOR EACH ROW WHEN (OLD.language_title = OLD.name) EXECUTE FUNCTION meta.remember_removed_function();
