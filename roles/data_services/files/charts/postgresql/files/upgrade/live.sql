-- Of the primary, what files/upgrade/upgrade judges; one line of JSON. In the platform's database, whose tables it looks at.
SELECT json_build_object(
  'major', current_setting('server_version_num')::int / 10000 || '',
  'prepared', (SELECT coalesce(json_agg(gid), '[]') FROM pg_prepared_xacts),
  'slots', (SELECT coalesce(json_agg(json_build_object('name', slot_name, 'logical', slot_type = 'logical',
      'member', slot_name ~ '^postgresql_[0-9]+$')), '[]') FROM pg_replication_slots WHERE NOT temporary),
  'subscriptions', (SELECT coalesce(json_agg(subname), '[]') FROM pg_subscription),
  'tablespaces', (SELECT coalesce(json_agg(spcname), '[]') FROM pg_tablespace WHERE spcname !~ '^pg_'),
  'extensions', (SELECT json_agg(extname) FROM pg_extension),
  'columns', (SELECT coalesce(json_agg(format('%s.%s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod))), '[]')
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relkind IN ('r', 'm', 'i') AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
      AND relnamespace::regnamespace::text !~ '^pg_' AND NOT attisdropped
      AND atttypid IN (SELECT oid FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typname IN ('regcollation', 'regconfig',
        'regdictionary', 'regnamespace', 'regoper', 'regoperator', 'regproc', 'regprocedure', 'aclitem'))),
  'catalog_bytes', (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r')
    * (SELECT count(*) FROM pg_database),
  'archive_failed', (SELECT CASE WHEN coalesce(last_failed_time > last_archived_time, failed_count > 0) THEN last_failed_wal END
    FROM pg_stat_archiver))
