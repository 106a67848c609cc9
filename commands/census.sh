#!/bin/bash
# census: writes down what is in the databases, inside of them (schema keeper of the database postgres), right before a
# snapshot. A clone of the snapshot is then held against it: one that lost the end of its WAL lacks the census, and one that
# lost databases, relations or rows does not match it. Safe to run again.
#
# It counts the rows of what changed since the previous census and is small, of what has come to rest since, and of what was
# not counted for a week, from the smallest on until the time is over. What has not changed keeps its count. The rest is
# estimated from the last count and the statistics: rows, rows_least, rows_most, exact = false; nothing where they do not
# tell. The counts of one database belong to one snapshot of it, and none holds a lock longer than it takes.
#
# Statistics arrive up to 10 s late, and a crash loses them (then everything counts as changed).
#
# Parameters (environment):
#   SSM_census  id of this census, ^[A-Za-z0-9_.:-]{1,100}$; the same id replaces the census that has it
# Its last line on stdout is JSON: {"census":"…","takenAt":"…Z","databases":n,"relations":n,"rows":n}
# Exit codes: 0 the census is written, and it is on disk
#   50 the tables for it could not be made, or the databases not be listed   51 a database could not be counted
#   52 the CHECKPOINT failed                                                 53 the census could not be written
set -euo pipefail
export LC_ALL=C

: "${SSM_census:?census: the parameter census is missing}"
readonly container=keeper-postgres
readonly small=$((64 << 20)) # bytes; read in half a second from a gp3 volume
readonly count_seconds=120 # of counting in one database
files=$(mktemp -d)
readonly files
trap 'rm -r "$files"' EXIT

fail() {
  echo "census: $2" >&2
  exit "$1"
}

# query DATABASE OPTIONS...: psql in a session of its own, its script on stdin. The name goes by the environment, because
# psql takes a parameter with `=` in it for a connection string. Settings of the database or the role do not interfere.
query() {
  docker exec -i --env "PGDATABASE=$1" --env PGCLIENTENCODING=UTF8 --env 'PGOPTIONS=-c search_path=pg_catalog
    -c client_min_messages=warning -c default_transaction_read_only=off -c default_transaction_isolation=read\ committed
    -c lock_timeout=2s -c statement_timeout=600s -c idle_in_transaction_session_timeout=0' \
    "$container" psql -X -q -A -t -v ON_ERROR_STOP=1 -v census="$SSM_census" -U postgres "${@:2}"
}

prepare() {
  query postgres <<'SQL'
CREATE SCHEMA IF NOT EXISTS keeper;
CREATE TABLE IF NOT EXISTS keeper.census (
  id text PRIMARY KEY,
  taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS keeper.census_database (
  census_id text REFERENCES keeper.census ON DELETE CASCADE,
  database_name text,
  timescaledb jsonb, -- its version, and how many of each kind of its objects there are
  PRIMARY KEY (census_id, database_name)
);
CREATE TABLE IF NOT EXISTS keeper.census_relation (
  census_id text,
  database_name text,
  relation oid,
  schema_name text NOT NULL,
  relation_name text NOT NULL,
  kind "char" NOT NULL, -- as pg_class.relkind
  file oid, -- its file node
  bytes bigint, -- of its main fork; null when it was locked
  quiet boolean NOT NULL, -- it, or for an index its table, has not changed since the previous census
  rows bigint,
  exact boolean,
  rows_least bigint,
  rows_most bigint,
  deleted_lately bigint, -- since the previous census
  counted_at timestamptz,
  horizon xid8, -- all transactions before it had ended when the rows were counted
  inserted bigint,
  updated bigint,
  deleted bigint,
  statistics_since timestamptz,
  PRIMARY KEY (census_id, database_name, relation),
  FOREIGN KEY (census_id, database_name) REFERENCES keeper.census_database ON DELETE CASCADE
);
SQL
}

# datconnlimit -2: dropping the database was interrupted, and nobody can connect to it
databases() {
  query postgres --record-separator-zero <<'SQL'
SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname;
SQL
}

previous() {
  query postgres -v database="$1" <<'SQL'
COPY (
  SELECT relation, file, rows, exact, rows_least, rows_most, counted_at, horizon, inserted, updated, deleted,
    statistics_since
  FROM keeper.census_relation
  WHERE database_name = :'database'
    AND census_id = (SELECT id FROM keeper.census WHERE id <> :'census' ORDER BY taken_at DESC LIMIT 1)
) TO STDOUT;
SQL
}

# count DATABASE: its line for census_database, and then its lines for census_relation
count() {
  previous "$1" >"$files/previous" || return
  {
    cat <<'SQL'
\o /dev/null
CREATE TEMP TABLE previous (
  relation oid PRIMARY KEY, file oid, rows bigint, exact boolean, rows_least bigint, rows_most bigint, counted_at timestamptz,
  horizon xid8, inserted bigint, updated bigint, deleted bigint, statistics_since timestamptz
);
COPY pg_temp.previous FROM STDIN;
SQL
    cat "$files/previous"
    cat <<'SQL'
\.
ANALYZE pg_temp.previous;
-- The statistics are read before the snapshot is taken that rows are counted by: what they miss will show as a change next
-- time. A TOAST table or an index belongs to its table.
CREATE TEMP TABLE relation AS
SELECT c.oid AS relation, n.nspname AS schema_name, c.relname AS relation_name, c.relkind AS kind,
  coalesce(i.indrelid, c.oid) AS heap,
  pg_relation_filenode(c.oid) AS file, NULL::bigint AS bytes,
  c.relpersistence = 'p' AS lasting, -- recovery empties unlogged tables
  c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' AND c.relispopulated AS countable,
  pg_stat_get_tuples_inserted(c.oid) AS inserted, pg_stat_get_tuples_updated(c.oid) AS updated,
  pg_stat_get_tuples_deleted(c.oid) AS deleted, since.statistics AS statistics_since,
  false AS quiet, NULL::bigint AS rows, NULL::boolean AS exact, NULL::bigint AS rows_least, NULL::bigint AS rows_most,
  NULL::bigint AS deleted_lately, NULL::timestamptz AS counted_at, NULL::xid8 AS horizon
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid,
(
  -- after a crash, the first; after pg_stat_reset, the second
  SELECT greatest(b.stats_reset, d.stats_reset) AS statistics
  FROM pg_stat_bgwriter b, pg_stat_database d
  WHERE d.datname = current_database()
) since
WHERE c.oid >= 16384 -- no system catalog
  AND c.relkind IN ('r', 'p', 'm', 't', 'i', 'I', 'S', 'v', 'f')
  AND c.relpersistence <> 't'
  AND NOT EXISTS ( -- the census itself
    SELECT FROM pg_class k
    JOIN pg_namespace s ON s.oid = k.relnamespace
    WHERE current_database() = 'postgres' AND s.nspname = 'keeper'
      AND (c.oid IN (k.oid, k.reltoastrelid) OR i.indrelid IN (k.oid, k.reltoastrelid))
  );
ALTER TABLE pg_temp.relation ADD PRIMARY KEY (relation);
ANALYZE pg_temp.relation;

UPDATE pg_temp.relation r
SET quiet = r.lasting AND EXISTS (
  SELECT FROM pg_temp.relation h
  JOIN pg_temp.previous p ON p.relation = h.relation
  WHERE h.relation = r.heap
    AND (h.file, h.inserted, h.updated, h.deleted) = (p.file, p.inserted, p.updated, p.deleted)
    AND h.statistics_since IS NOT DISTINCT FROM p.statistics_since
);
-- an index that was made anew
UPDATE pg_temp.relation r SET quiet = false
WHERE r.quiet AND NOT EXISTS (SELECT FROM pg_temp.previous p WHERE p.relation = r.relation AND p.file = r.file);

-- What the previous census and the statistics tell of it.
UPDATE pg_temp.relation r
SET deleted_lately = CASE
    WHEN r.file <> p.file THEN NULL -- rewritten or emptied: any number of rows can have gone, and can go
    WHEN continued.statistics THEN r.deleted - p.deleted
    ELSE r.deleted
  END,
  rows = p.rows + (r.inserted - p.inserted) - (r.deleted - p.deleted),
  rows_least = greatest(p.rows_least - (r.deleted - p.deleted), 0),
  rows_most = p.rows_most + (r.inserted - p.inserted),
  exact = p.exact AND r.quiet,
  counted_at = p.counted_at,
  horizon = p.horizon
FROM pg_temp.previous p
JOIN pg_temp.relation now ON now.relation = p.relation,
LATERAL (
  SELECT now.statistics_since IS NOT DISTINCT FROM p.statistics_since AND now.inserted >= p.inserted
    AND now.updated >= p.updated AND now.deleted >= p.deleted AS statistics
) continued
WHERE p.relation = r.relation AND r.countable;
-- With other statistics than then nothing follows from them.
UPDATE pg_temp.relation r
SET rows = NULL, rows_least = NULL, rows_most = NULL, exact = NULL, counted_at = NULL, horizon = NULL
FROM pg_temp.previous p
WHERE p.relation = r.relation
  AND (r.file <> p.file OR r.statistics_since IS DISTINCT FROM p.statistics_since OR r.inserted < p.inserted
    OR r.updated < p.updated OR r.deleted < p.deleted);
UPDATE pg_temp.relation r SET deleted_lately = r.deleted
WHERE r.countable AND NOT EXISTS (SELECT FROM pg_temp.previous p WHERE p.relation = r.relation);

SELECT count(*) > 0 AS timescaledb FROM pg_extension WHERE extname = 'timescaledb' \gset
\set described ''
\if :timescaledb
SELECT json_build_object(
  'version', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
  'hypertables', (SELECT count(*) FROM timescaledb_information.hypertables),
  'chunks', (SELECT count(*) FROM timescaledb_information.chunks),
  'compressedChunks', (SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed),
  'continuousAggregates', (SELECT count(*) FROM timescaledb_information.continuous_aggregates),
  'jobs', (SELECT count(*) FROM timescaledb_information.jobs)) AS described \gset
\endif

-- Rows are counted where they are stored: in the heap, so that nothing stands between the count and the pages, and those of
-- a compressed chunk as the batches that they are kept in.
CREATE FUNCTION pg_temp.count_rows(schema_name name, relation_name name) RETURNS bigint LANGUAGE plpgsql
SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off
SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
  counted bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM ONLY %I.%I', schema_name, relation_name) INTO counted;
  RETURN counted;
END
$$;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'timescaledb.enable_transparent_decompression';

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT set_config('keeper.horizon', pg_snapshot_xmin(pg_current_snapshot())::text, true);
SELECT set_config('keeper.small', :'small', true), set_config('statement_timeout', :'seconds' || 's', true);
DO $$
DECLARE
  this record;
  measured bigint;
BEGIN
  FOR this IN SELECT relation FROM pg_temp.relation WHERE file IS NOT NULL LOOP
    BEGIN
      measured := pg_relation_size(this.relation);
    EXCEPTION WHEN lock_not_available THEN
      measured := NULL;
    END;
    UPDATE pg_temp.relation r SET bytes = measured WHERE r.relation = this.relation;
  END LOOP;
END
$$;
DO $$
DECLARE
  this record;
  counted bigint;
BEGIN
  FOR this IN
    SELECT relation, schema_name, relation_name FROM pg_temp.relation
    WHERE countable AND exact IS NOT true AND (
      bytes < current_setting('keeper.small')::bigint -- it is cheap
      OR quiet -- once is enough
      OR counted_at IS NULL OR counted_at < now() - interval '7 days' -- or an estimate would say less and less
    )
    ORDER BY bytes
  LOOP
    BEGIN
      counted := NULL;
      counted := pg_temp.count_rows(this.schema_name, this.relation_name);
      RAISE SQLSTATE 'KC000'; -- gives the lock back; the variable stays
    EXCEPTION
      WHEN SQLSTATE 'KC000' THEN NULL;
      WHEN lock_not_available OR undefined_table OR invalid_schema_name THEN NULL;
      WHEN query_canceled THEN EXIT; -- the time is over
      WHEN OTHERS THEN RAISE WARNING 'the rows of %.% cannot be counted: %', this.schema_name, this.relation_name, SQLERRM;
    END;
    IF counted IS NOT NULL THEN
      UPDATE pg_temp.relation r
      SET rows = counted, rows_least = counted, rows_most = counted, exact = true, counted_at = now(),
        horizon = current_setting('keeper.horizon')::xid8
      WHERE r.relation = this.relation;
    END IF;
  END LOOP;
END
$$;
\o
COPY (SELECT :'census', current_database(), nullif(:'described', '')) TO STDOUT;
COPY (
  SELECT :'census', current_database(), relation, schema_name, relation_name, kind, file, bytes, quiet, rows, exact,
    rows_least, rows_most, deleted_lately, counted_at, horizon, inserted, updated, deleted, statistics_since
  FROM pg_temp.relation
) TO STDOUT;
COMMIT;
SQL
  } | query "$1" -v small="$small" -v seconds="$count_seconds"
}

# The CHECKPOINT shortens the start of a clone. It comes before, so that the census is in the WAL after it: a clone shows the
# census only when it has replayed all of the WAL up to there.
checkpoint() {
  query postgres <<<'SET statement_timeout = 0; CHECKPOINT;'
}

store() {
  {
    cat <<'SQL'
BEGIN;
SET LOCAL synchronous_commit = on;
DELETE FROM keeper.census WHERE id = :'census';
INSERT INTO keeper.census (id) VALUES (:'census');
COPY keeper.census_database FROM STDIN;
SQL
    cat "$files/databases"
    echo '\.'
    echo 'COPY keeper.census_relation FROM STDIN;'
    cat "$files/relations"
    cat <<'SQL'
\.
DELETE FROM keeper.census WHERE id NOT IN (SELECT id FROM keeper.census ORDER BY taken_at DESC LIMIT 3);
COMMIT;
SELECT json_build_object(
  'census', id,
  'takenAt', to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
  'databases', (SELECT count(*) FROM keeper.census_database WHERE census_id = id),
  'relations', (SELECT count(*) FROM keeper.census_relation WHERE census_id = id),
  'rows', (SELECT coalesce(sum(rows), 0) FROM keeper.census_relation WHERE census_id = id))
FROM keeper.census
WHERE id = :'census';
SQL
  } | query postgres
}

prepare || fail 50 'the tables of the census could not be made'
mapfile -d '' names < <(databases)
((${#names[@]} > 0)) || fail 50 'the databases could not be listed'
: >"$files/databases"
: >"$files/relations"
for name in "${names[@]}"; do
  count "$name" >"$files/counted" || fail 51 "the database $name could not be counted"
  head -n 1 "$files/counted" >>"$files/databases"
  tail -n +2 "$files/counted" >>"$files/relations"
done
checkpoint || fail 52 'the database did not take a CHECKPOINT'
store || fail 53 'the census could not be written'
