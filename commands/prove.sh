#!/bin/bash
# prove: the user data of a scratch host, which was launched with a clone of a snapshot. It starts the database from it in
# isolation, looks at all of it, and reports what it has found to the task that waits. Whoever waits terminates the host;
# should nobody, it ends itself.
#
# Every page is read through the server, which holds it against its checksum, and what was just read is looked at while it
# is still in memory: a heap 128 MiB at a time (rows counted, tuples and TOAST pointers verified), an index as a whole (and
# the order of its entries, where it is a B-tree). As many sessions as processors do that, so that one computes while
# another one reads.
#
# Parameters (environment; the launcher inserts `export` lines below the first one):
#   KEEPER_DATABASE    name of the database
#   KEEPER_REGION      AWS region
#   KEEPER_IMAGE       PostgreSQL image, pinned by digest
#   KEEPER_TASK_TOKEN  task of Step Functions that waits for the report
#   KEEPER_CENSUS      id of the census that was written before the snapshot; empty: nothing is compared
#   KEEPER_LEVEL       `quick`: it recovers, and can be read; `full`: everything in it is read and checked
# The report is JSON: {"ok","level","checks":[{"name","ok","seconds","detail"[,"findings","more"]}],"censusTakenAt",
# "serverVersion","timescaledb","recoverySeconds","bytesRead","seconds"}. Each finding is a sentence; of a failed check
# `detail` is the first one, and `findings` has up to 20. The seconds of pages, heaps and indexes are those of all sessions.
# Exit codes: 0 it has reported; 1 it could not check at all (the task fails with CannotVerify).
set -Eeuo pipefail
export LC_ALL=C AWS_REGION=$KEEPER_REGION AWS_PAGER=

readonly container=keeper-clone
readonly pgdata=/clone/pgdata
readonly run=/run/keeper
readonly device_seconds=120
readonly recovery_seconds=3600 # a clone's blocks come from S3 when they are first read
# None of them reaches the report's limit: a task's output has 262,144 bytes at most.
readonly most_findings=20 longest_finding=600

shutdown -h +780 # the watchdog: later than whoever waits gives up

install -d -m 0700 "$run"

fail() {
  trap - ERR
  echo "prove: $1" >&2
  timeout 20 aws stepfunctions send-task-failure --task-token "$KEEPER_TASK_TOKEN" --error CannotVerify --cause "$1" || true
  stop_heartbeats
  exit 1
}
trap '((BASH_SUBSHELL > 0)) || fail "line $LINENO: \`$BASH_COMMAND\` failed"' ERR

heartbeats=
send_heartbeats() {
  while sleep 60; do
    timeout 20 aws stepfunctions send-task-heartbeat --task-token "$KEEPER_TASK_TOKEN" || true
  done &
  heartbeats=$!
}

stop_heartbeats() {
  [[ -z $heartbeats ]] || kill "$heartbeats" 2>/dev/null || true
}

# include: host.sh

# seconds MICROSECONDS
seconds() {
  printf '%d.%03d' $(($1 / 1000000)) $(($1 / 1000 % 1000))
}

# seconds_since MICROSECONDS: since that time
seconds_since() {
  seconds $((${EPOCHREALTIME/./} - $1))
}

# found CHECK SENTENCE
found() {
  echo "prove: $1: $2" >&2
  printf '%s\0%s\0' "$1" "$2" >>"$run/findings"
}

# checked CHECK SECONDS DETAIL: what to say of it when nothing was found
checked() {
  echo "prove: $1 took $2 s"
  printf '%s\0%s\0%s\0' "$1" "$2" "$3" >>"$run/checks"
}

# fact NAME JSON: for the report
fact() {
  printf '%s\0%s\0' "$1" "$2" >>"$run/facts"
}

has_findings() {
  [[ -s $run/findings ]]
}

report() {
  fact seconds "$(seconds_since "$begun")"
  [[ ! -b ${device:-} ]] || fact bytesRead $((($(sectors_read) - sectors_before) * 512))
  python3 -I -S - "$run" "$KEEPER_LEVEL" "$most_findings" "$longest_finding" >"$run/report" <<'PYTHON'
import json, sys

directory, level, most, longest = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def records(name, fields):
    with open(f'{directory}/{name}', 'rb') as file:
        values = file.read().decode('utf-8', 'replace').split('\0')[:-1]
    return [values[i:i + fields] for i in range(0, len(values), fields)]

def describe(name, seconds, detail):
    said = [sentence[:longest] for check, sentence in records('findings', 2) if check == name]
    check = {'name': name, 'ok': not said, 'seconds': float(seconds), 'detail': said[0] if said else detail}
    return check | ({'findings': said[:most], 'more': max(len(said) - most, 0)} if said else {})

checks = [describe(*record) for record in records('checks', 3)]
facts = {'censusTakenAt': None, 'serverVersion': None, 'timescaledb': None, 'recoverySeconds': None, 'bytesRead': None}
facts |= {name: json.loads(value) for name, value in records('facts', 2)}
print(json.dumps({'ok': all(check['ok'] for check in checks), 'level': level, 'checks': checks, **facts}))
PYTHON
  try_thrice timeout 20 aws stepfunctions send-task-success --task-token "$KEEPER_TASK_TOKEN" \
    --task-output "file://$run/report" || fail 'Step Functions did not take the report'
  stop_heartbeats
  exit 0
}

# Where nothing more can be looked at after a finding.
report_if_found() {
  if has_findings; then report; fi
}

# The disks that EBS provides, apart from the one with the operating system, which is partitioned. udev may give a disk
# more than one link.
clones() {
  local link number
  for link in /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol*; do
    [[ -b $link && $link != *-part* ]] || continue
    number=$(mountpoint -x "$link")
    compgen -G "/sys/dev/block/$number/*/partition" >/dev/null || readlink -f "$link"
  done | sort -u
}

find_clone() {
  local deadline=$((EPOCHSECONDS + device_seconds))
  local -a devices
  mapfile -t devices < <(clones)
  until ((${#devices[@]} > 0)); do
    ((EPOCHSECONDS < deadline)) || fail "no clone was attached to this host within $device_seconds s"
    sleep 0.2
    mapfile -t devices < <(clones)
  done
  ((${#devices[@]} == 1)) || fail "more than one volume is attached to this host: ${devices[*]}"
  device=${devices[0]}
  sectors_before=$(sectors_read)
}

# Documentation/admin-guide/iostats.rst of the kernel: the third field, of 512 bytes each
sectors_read() {
  local sectors
  read -r _ _ sectors _ <"/sys/dev/block/$(mountpoint -x "$device")/stat"
  echo "$sectors"
}

mount_clone() {
  local began=${EPOCHREALTIME/./} error signatures
  install -d -m 0755 /clone
  if ! error=$(mount -t xfs -o noatime,nouuid "$device" /clone 2>&1); then
    signatures=$(wipefs --no-act --noheadings "$device" 2>&1) || true
    [[ -n $signatures ]] || error='it is blank'
    found mount "the volume has no XFS file system that can be mounted: $error"
  fi
  checked mount "$(seconds_since "$began")" 'the file system was mounted'
}

# of_image ARGUMENTS...: a program of the image, beside the clone, which it cannot change
of_image() {
  docker run --rm --network none --mount "type=bind,source=$pgdata,target=/var/lib/postgresql/data,readonly" \
    "$KEEPER_IMAGE" "$@"
}

# transactions_complete CONTROL: whether there are files of pg_xact without a gap up to the newest transaction. The oldest
# may go at any time. A transaction has two bits, and a file 256 KiB (access/transam/clog.c, slru.c).
transactions_complete() {
  local newest segment name begun=false
  [[ $1 =~ NextXID:\ +[0-9]+:([0-9]+) ]] || return 1
  newest=$(((BASH_REMATCH[1] - 1) >> 20))
  for ((segment = 0; segment <= newest; segment++)); do
    printf -v name '%s/pg_xact/%04X' "$pgdata" "$segment"
    if [[ -e $name ]]; then begun=true; elif [[ $begun == true ]]; then return 1; fi
  done
  [[ $begun == true ]]
}

check_data_directory() {
  local began=${EPOCHREALTIME/./} of_clone of_server control
  if [[ ! -s $pgdata/PG_VERSION || ! -e $pgdata/global/pg_control ]]; then
    found data-directory 'the volume holds no PostgreSQL data directory in pgdata/'
  else
    of_clone=$(<"$pgdata/PG_VERSION")
    of_server=$(of_image postgres --version) || fail "the image $KEEPER_IMAGE does not tell its version"
    of_server=${of_server#postgres (PostgreSQL) }
    if [[ ${of_server%%.*} != "$of_clone" ]]; then
      found data-directory "the data directory is of PostgreSQL $of_clone, and the image has $of_server"
    elif ! control=$(of_image pg_controldata /var/lib/postgresql/data 2>&1); then
      found data-directory "the control file cannot be read: ${control##*$'\n'}"
    elif [[ $control == *WARNING:* ]]; then
      control=${control#*WARNING: }
      found data-directory "the control file is damaged or of another PostgreSQL: ${control%%$'\n'*}"
    elif ! transactions_complete "$control"; then
      found data-directory 'a part of pg_xact is missing: which transactions have committed is not known'
    elif [[ ! $control =~ 'Data page checksum version:'\ +[1-9] ]]; then
      found data-directory 'the cluster has no data checksums: what changes inside of a page would not be seen'
    fi
  fi
  checked data-directory "$(seconds_since "$began")" 'it is of the PostgreSQL in the image, and has data checksums'
}

# Nothing of it reaches anybody: no network, no jobs of TimescaleDB (they would drop chunks), no archiving of WAL.
create_container() {
  docker create --name "$container" --network none --shm-size 256m --stop-timeout 120 --log-driver local \
    --mount "type=bind,source=$pgdata,target=/var/lib/postgresql/data" \
    "$KEEPER_IMAGE" postgres -c timescaledb.max_background_workers=0 -c default_transaction_read_only=on \
    -c archive_mode=off -c autovacuum=off -c shared_buffers=128MB -c max_connections=20 -c maintenance_work_mem=64MB \
    -c max_wal_size=256MB -c log_destination=stderr -c logging_collector=off >/dev/null ||
    fail "the container could not be created from $KEEPER_IMAGE"
}

last_words() {
  local words
  words=$(docker logs --tail 50 "$container" 2>&1)
  { grep -oE '(PANIC|FATAL): .*' <<<"$words" || echo "$words"; } | tail -n 1
}

# Whether the server comes to accept connections.
wait_until_ready() {
  local deadline=$((EPOCHSECONDS + recovery_seconds)) polls=0
  until docker exec "$container" pg_isready -q -U postgres; do
    ((EPOCHSECONDS < deadline)) || return 1
    [[ $(docker inspect -f '{{.State.Status}}' "$container") == running ]] || return 1
    # the server logs every refusal
    if ((++polls < 100)); then sleep 0.05; else sleep 1; fi
  done
}

recover() {
  local began=${EPOCHREALTIME/./} took error
  create_container
  if ! error=$(docker start "$container" 2>&1 >/dev/null); then
    found recovery "the container does not start: $error"
  elif ! wait_until_ready; then
    found recovery "PostgreSQL does not start from it: $(last_words)"
  fi
  took=$(seconds_since "$began")
  has_findings || fact recoverySeconds "$took"
  checked recovery "$took" 'PostgreSQL replayed the WAL and accepts connections'
}

# query DATABASE OPTIONS...: psql in a session of its own, its script on stdin. Settings on the volume do not interfere.
query() {
  docker exec -i --env "PGDATABASE=$1" --env PGCLIENTENCODING=UTF8 --env 'PGOPTIONS=-c search_path=pg_catalog
    -c client_min_messages=error -c default_transaction_read_only=off -c ignore_checksum_failure=off
    -c zero_damaged_pages=off -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0
    -c synchronous_commit=off -c max_parallel_workers_per_gather=0 -c jit=off' \
    "$container" psql -X -q -A -t -v ON_ERROR_STOP=1 -v census="$KEEPER_CENSUS" -v database="$1" -U postgres "${@:2}"
}

# ask CHECK DATABASE OPTIONS...: as query; a failure is a finding
ask() {
  local check=$1 database=$2 error
  shift 2
  query "$database" "$@" 2>"$run/errors" && return
  error=$(grep -oE '(PANIC|FATAL|ERROR): .*' "$run/errors" | head -n 1) || error=$(tail -n 1 "$run/errors")
  found "$check" "database $database: $error"
  return 1
}

# ask_findings CHECK DATABASE OPTIONS...: asks for pairs of check and sentence
ask_findings() {
  ask "$@" --record-separator-zero --field-separator-zero >>"$run/findings"
}

# All that can be connected to; also the templates, which are made connectable for it.
check_catalog() {
  local began=${EPOCHREALTIME/./} name version
  if version=$(ask catalog postgres <<<'SHOW server_version'); then
    fact serverVersion "\"${version%% *}\""
    ask catalog postgres --record-separator-zero >"$run/databases" <<'SQL' || true
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database
WHERE NOT datallowconn AND datconnlimit <> -2 \gexec
SELECT datname FROM pg_database WHERE datconnlimit <> -2 ORDER BY datname;
SQL
    mapfile -d '' databases <"$run/databases"
  fi
  for name in "${databases[@]}"; do
    version=$(ask catalog "$name" <<'SQL'
SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')
FROM (SELECT count(c) FROM pg_class c) class, (SELECT count(a) FROM pg_attribute a) attribute,
  (SELECT count(t) FROM pg_type t) type, (SELECT count(p) FROM pg_proc p) proc, (SELECT count(i) FROM pg_index i) index,
  (SELECT count(d) FROM pg_depend d) depend, (SELECT count(s) FROM pg_statistic s) statistic;
SQL
    ) || continue
    [[ -z $version ]] || extension[$name]=$version
  done
  checked catalog "$(seconds_since "$began")" "${#databases[@]} databases can be connected to, and their catalogs read"
}

# The census is complete when it is there: it was committed as a whole.
check_census() {
  local began=${EPOCHREALTIME/./} taken='' exists
  if [[ -z $KEEPER_CENSUS ]]; then
    checked census 0 'no census was written before this snapshot: nothing can be compared'
    return
  fi
  exists=$(ask census postgres <<<"SELECT to_regclass('keeper.census') IS NOT NULL") || true
  if [[ $exists == t ]]; then
    taken=$(ask census postgres <<'SQL'
SELECT to_char(taken_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') FROM keeper.census WHERE id = :'census';
SQL
    ) || true
  fi
  if [[ -n $taken ]]; then
    fact censusTakenAt "\"$taken\""
    read_expected
  else
    found census "the census $KEEPER_CENSUS that was written before the snapshot is not in it:"\
' the end of the WAL is missing, or this is another volume'
  fi
  checked census "$(seconds_since "$began")" "it has the census of $taken"
}

# The databases of the census, and what it says of their TimescaleDB.
read_expected() {
  local name described
  ask census postgres --record-separator-zero --field-separator-zero >"$run/expected" <<'SQL' || return 0
SELECT database_name, timescaledb FROM keeper.census_database WHERE census_id = :'census';
SQL
  while IFS= read -r -d '' name && IFS= read -r -d '' described; do expected[$name]=$described; done <"$run/expected"
}

# The library of its version is in the image, and it has as many objects as in the census.
check_timescaledb() {
  local began=${EPOCHREALTIME/./} name counts
  for name in "${databases[@]}"; do
    counts='{}'
    if [[ -n ${extension[$name]:-} ]]; then
      fact timescaledb "\"${extension[$name]}\""
      counts=$(ask timescaledb "$name" <<'SQL'
SELECT json_build_object(
  'version', (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
  'hypertables', (SELECT count(*) FROM timescaledb_information.hypertables),
  'chunks', (SELECT count(*) FROM timescaledb_information.chunks),
  'compressedChunks', (SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed),
  'continuousAggregates', (SELECT count(*) FROM timescaledb_information.continuous_aggregates),
  'jobs', (SELECT count(*) FROM timescaledb_information.jobs));
SQL
      ) || continue
    fi
    [[ -n ${expected[$name]:-} ]] || continue
    # chunks are made and compressed at any time
    ask_findings timescaledb "$name" -v expected="${expected[$name]}" -v counts="$counts" <<'SQL' || true
SELECT 'timescaledb', format('database %I: TimescaleDB: %s: %s; in the census %s', :'database', key,
  coalesce(present.value, 'none'), expected.value)
FROM jsonb_each_text(:'expected') expected
LEFT JOIN jsonb_each_text(:'counts') present USING (key)
WHERE CASE WHEN key IN ('chunks', 'compressedChunks') AND present.value IS NOT NULL
  THEN present.value::bigint < expected.value::bigint
  ELSE present.value IS DISTINCT FROM expected.value END;
SQL
  done
  checked timescaledb "$(seconds_since "$began")" "${#extension[@]} databases have the extension"
}

# expected_relations DATABASE: what the census says of them
expected_relations() {
  [[ -n ${expected[$1]+known} ]] || return 0
  ask census postgres -v of="$1" <<'SQL'
COPY (
  SELECT relation, schema_name, relation_name, kind, file, bytes, quiet, rows, exact, rows_least, deleted_lately, horizon
  FROM keeper.census_relation WHERE census_id = :'census' AND database_name = :'of'
) TO STDOUT;
SQL
}

# prepare DATABASE: makes the list of what is to be read and checked in it, in a schema of its own
prepare() {
  expected_relations "$1" >"$run/expected" || return
  {
    cat <<'SQL'
\o /dev/null
-- those of the database's own
SELECT format('ALTER EVENT TRIGGER %I DISABLE', evtname) FROM pg_event_trigger t
WHERE NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e'
) \gexec
CREATE SCHEMA keeper_proof;
CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA keeper_proof;
CREATE EXTENSION IF NOT EXISTS pg_prewarm SCHEMA keeper_proof;
CREATE EXTENSION IF NOT EXISTS pg_visibility SCHEMA keeper_proof;
ALTER EXTENSION amcheck UPDATE;
SELECT format('pg_catalog, keeper_proof, %s', string_agg(extnamespace::regnamespace::text, ', ')) AS path
FROM pg_extension WHERE extname IN ('amcheck', 'pg_prewarm', 'pg_visibility') \gset
SET search_path = :path;

CREATE TABLE keeper_proof.expected (
  relation oid PRIMARY KEY, schema_name text, relation_name text, kind "char", file oid, bytes bigint, quiet boolean,
  rows bigint, exact boolean, rows_least bigint, deleted_lately bigint, horizon xid8
);
CREATE TABLE keeper_proof.finding (check_name text, sentence text);

CREATE FUNCTION keeper_proof.kind_name("char") RETURNS text LANGUAGE sql AS $$
  SELECT CASE $1 WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'm' THEN 'materialized view'
    WHEN 't' THEN 'TOAST table' WHEN 'i' THEN 'index' WHEN 'I' THEN 'partitioned index' WHEN 'S' THEN 'sequence'
    WHEN 'v' THEN 'view' WHEN 'f' THEN 'foreign table' ELSE 'relation' END
$$;
-- e.g. table public.orders, TOAST table pg_toast.pg_toast_16395 of public.orders
CREATE FUNCTION keeper_proof.describe(oid) RETURNS text LANGUAGE sql AS $$
  SELECT format('%s %I.%I', keeper_proof.kind_name(c.relkind), n.nspname, c.relname)
    || CASE WHEN o.oid IS NULL THEN '' ELSE format(' of %I.%I', s.nspname, o.relname) END
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_class o ON o.reltoastrelid IN (c.oid, i.indrelid) AND o.reltoastrelid <> 0
    OR o.oid = i.indrelid AND o.relkind <> 't'
  LEFT JOIN pg_namespace s ON s.oid = o.relnamespace
  WHERE c.oid = $1
$$;
CREATE PROCEDURE keeper_proof.find(check_name text, relation oid, what text, VARIADIC arguments text[])
LANGUAGE sql AS $$
  INSERT INTO keeper_proof.finding
  VALUES ($1, format('database %I: %s ', current_database(), keeper_proof.describe($2)) || format($3, VARIADIC $4))
$$;

-- A heap in parts, everything else as a whole. What belongs together is read together, the largest first.
CREATE TABLE keeper_proof.item AS
SELECT row_number() OVER (ORDER BY weight DESC, owner, rank, relation, fork, first_block) AS number,
  relation, kind, fork, first_block, last_block, verifiable, bytes,
  NULL::bigint AS rows, 0::float8 AS read_seconds, 0::float8 AS check_seconds
FROM (
  SELECT *, sum(bytes) OVER (PARTITION BY owner) AS weight
  FROM (
    SELECT c.oid AS relation, c.relkind AS kind, f.fork, part.first_block,
      CASE WHEN part.first_block + 16384 < size.blocks THEN part.first_block + 16383 END AS last_block,
      least(size.blocks - part.first_block, 16384) * current_setting('block_size')::bigint AS bytes,
      a.amname IN ('heap', 'btree') AND c.relkind <> 'S' AND c.relpersistence = 'p' AND f.fork = 'main'
        AND coalesce(i.indisvalid AND i.indisready, true) AS verifiable,
      coalesce(toasted.oid, i.indrelid, c.oid) AS owner,
      (toasted.oid IS NULL)::int * 2 + (i.indexrelid IS NOT NULL)::int AS rank -- TOAST comes first
    FROM pg_class c
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_class toasted ON toasted.reltoastrelid = coalesce(i.indrelid, c.oid)
    LEFT JOIN pg_am a ON a.oid = c.relam
    CROSS JOIN unnest('{main,vm,fsm,init}'::text[]) f (fork)
    CROSS JOIN LATERAL (
      SELECT pg_relation_size(c.oid, f.fork) / current_setting('block_size')::bigint AS blocks
    ) size
    CROSS JOIN LATERAL generate_series(0,
      CASE WHEN c.relkind IN ('r', 'm', 't') AND f.fork = 'main' THEN greatest(size.blocks - 1, 0) ELSE 0 END, 16384
    ) part (first_block)
    WHERE pg_relation_filenode(c.oid) IS NOT NULL AND (f.fork = 'main' OR size.blocks > 0)
      AND c.relpersistence <> 't' AND c.relnamespace <> 'keeper_proof'::regnamespace
      AND (NOT c.relisshared OR current_database() = 'postgres')
  ) each
) weighed;
ALTER TABLE keeper_proof.item ADD PRIMARY KEY (number);
CREATE SEQUENCE keeper_proof.next_item;

-- Reads the item, and counts its rows where it has any: in the heap, because an index would still have those of a page that
-- is gone. The last part of a heap goes to its end.
CREATE FUNCTION keeper_proof.read(this keeper_proof.item) RETURNS bigint LANGUAGE plpgsql SET search_path = :path
SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off AS $$
DECLARE
  counted bigint;
BEGIN
  IF this.kind IN ('r', 'm', 't') AND this.fork = 'main' THEN
    EXECUTE format('SELECT count(*) FROM ONLY %s WHERE ctid >= ''(%s,0)''', this.relation::regclass, this.first_block)
      || CASE WHEN this.last_block IS NULL THEN '' ELSE format(' AND ctid < ''(%s,0)''', this.last_block + 1) END
      INTO counted;
  ELSE
    PERFORM pg_prewarm(this.relation::regclass, 'buffer', this.fork);
  END IF;
  RETURN counted;
END
$$;
-- What is wrong with the item, if anything. The visibility map knows pages that have been emptied, or cut off.
CREATE FUNCTION keeper_proof.damage(this keeper_proof.item) RETURNS text LANGUAGE plpgsql SET search_path = :path AS $$
DECLARE
  blocks bigint := pg_relation_size(this.relation) / current_setting('block_size')::bigint;
BEGIN
  IF this.kind = 'i' THEN
    PERFORM bt_index_check(this.relation::regclass);
    RETURN NULL;
  END IF;
  RETURN (
    SELECT format('block %s: %s', blkno, msg)
    FROM verify_heapam(this.relation::regclass, on_error_stop => true, check_toast => true,
      startblock => this.first_block, endblock => this.last_block)
    UNION ALL
    SELECT format('block %s is marked all-visible, and is not', block)
    FROM generate_series(this.first_block, coalesce(this.last_block, blocks - 1)) block,
      pg_visibility(this.relation::regclass, block)
    WHERE all_visible AND NOT pd_all_visible
    UNION ALL
    SELECT format('block %s is marked all-visible, and the file ends before it', block)
    FROM generate_series(blocks, blocks + 999) block, pg_visibility_map(this.relation::regclass, block)
    WHERE this.last_block IS NULL AND all_visible
    LIMIT 1
  );
EXCEPTION WHEN OTHERS THEN
  RETURN SQLERRM;
END
$$;
CREATE PROCEDURE keeper_proof.work() LANGUAGE plpgsql AS $$
DECLARE
  this keeper_proof.item;
  next bigint;
  began timestamptz;
  problem text;
BEGIN
  LOOP
    next := nextval('keeper_proof.next_item');
    SELECT * INTO this FROM keeper_proof.item WHERE number = next;
    EXIT WHEN NOT FOUND;
    began := clock_timestamp();
    problem := NULL;
    BEGIN
      this.rows := keeper_proof.read(this);
    EXCEPTION WHEN OTHERS THEN
      problem := SQLERRM;
      CALL keeper_proof.find('pages', this.relation, 'cannot be read: %s', problem);
    END;
    this.read_seconds := extract(epoch FROM clock_timestamp() - began);
    IF this.verifiable AND problem IS NULL THEN
      began := clock_timestamp();
      problem := keeper_proof.damage(this);
      this.check_seconds := extract(epoch FROM clock_timestamp() - began);
      IF problem IS NOT NULL THEN
        CALL keeper_proof.find(CASE this.kind WHEN 'i' THEN 'indexes' ELSE 'heaps' END, this.relation, 'is damaged: %s',
          problem);
      END IF;
    END IF;
    UPDATE keeper_proof.item
    SET rows = this.rows, read_seconds = this.read_seconds, check_seconds = this.check_seconds
    WHERE number = next;
    COMMIT;
  END LOOP;
END
$$;
COPY keeper_proof.expected FROM STDIN;
SQL
    cat "$run/expected"
    echo '\.'
  } | ask catalog "$1"
}

# work DATABASE: as many sessions as processors take one item after another; a session that breaks off is a finding
work() {
  local -a sessions=()
  local session number broken=''
  for ((number = $(nproc); number > 0; number--)); do
    query "$1" >/dev/null 2>"$run/session-$number" <<'SQL' &
\o /dev/null
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'timescaledb.enable_transparent_decompression';
CALL keeper_proof.work();
SQL
    sessions+=($!)
  done
  for session in "${sessions[@]}"; do wait "$session" || broken=$session; done
  [[ -n $broken ]] || return 0
  found pages "database $1: PostgreSQL broke off while it was read: $(last_words)"
  wait_until_ready
}

# judge DATABASE: holds it against the census, and collects what was found; what was read, and the seconds that it took, go
# to $run/read: relations bytes pages heaps indexes.
#
# Rows that came after they were counted are told by their transaction. As many may have been deleted since as between the
# census and the one before; any number, where the table was emptied or rewritten between these.
judge() {
  local check sentence
  ask pages "$1" --record-separator-zero --field-separator-zero >"$run/judged" <<'SQL' || return 0
\o /dev/null
INSERT INTO keeper_proof.finding
SELECT 'relations', format('database %I: %s %I.%I of the census is missing', :'database', keeper_proof.kind_name(e.kind),
  e.schema_name, e.relation_name)
FROM keeper_proof.expected e
WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = e.relation) AND NOT EXISTS (
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = e.schema_name AND c.relname = e.relation_name
);
INSERT INTO keeper_proof.finding
SELECT 'relations', format('database %I: %s has %s bytes; in the census it has %s, and it does not change', :'database',
  keeper_proof.describe(relation), pg_relation_size(relation), bytes)
FROM keeper_proof.expected
WHERE quiet AND pg_relation_filenode(relation) = file AND pg_relation_size(relation) < bytes;
DO $$
DECLARE
  this record;
  old bigint;
BEGIN
  FOR this IN
    SELECT e.*, i.rows AS rows_now, greatest(e.rows_least - coalesce(e.deleted_lately, e.rows_least), 0) AS least
    FROM keeper_proof.expected e
    JOIN (
      SELECT relation, sum(rows)::bigint AS rows FROM keeper_proof.item WHERE fork = 'main' GROUP BY relation
      HAVING count(*) = count(rows) -- all of it could be read
    ) i USING (relation)
    WHERE e.rows <> i.rows
  LOOP
    IF this.rows_now < this.least THEN
      CALL keeper_proof.find('rows', this.relation, 'has %s rows; in the census it has %s', this.rows_now::text,
        CASE WHEN this.exact AND this.least = this.rows THEN this.rows::text
          ELSE format('%s, of which %s at least have to be left', this.rows, this.least) END);
    ELSIF this.exact AND this.rows_now > this.rows THEN
      EXECUTE format('SELECT count(*) FROM ONLY %s WHERE age(xmin) > age($1::xid)', this.relation::regclass)
        INTO old USING this.horizon;
      IF old > this.rows THEN
        CALL keeper_proof.find('rows', this.relation, 'has %s rows that are older than the census; in the census it has %s',
          old::text, this.rows::text);
      END IF;
    END IF;
  END LOOP;
END
$$;
\o
SELECT check_name, sentence FROM keeper_proof.finding
UNION ALL
SELECT 'read', concat_ws(' ', count(DISTINCT relation), sum(bytes), sum(read_seconds),
  coalesce(sum(check_seconds) FILTER (WHERE kind <> 'i'), 0), coalesce(sum(check_seconds) FILTER (WHERE kind = 'i'), 0))
FROM keeper_proof.item;
SQL
  while IFS= read -r -d '' check && IFS= read -r -d '' sentence; do
    if [[ $check == read ]]; then echo "$sentence" >>"$run/read"; else found "$check" "$sentence"; fi
  done <"$run/judged"
}

check_contents() {
  local name began judged=0 relations bytes pages heaps indexes
  local -A present=()
  for name in "${databases[@]}"; do present[$name]=true; done
  for name in "${!expected[@]}"; do
    [[ -n ${present[$name]:-} ]] || found relations "database $name of the census is missing"
  done
  : >"$run/read"
  for name in "${databases[@]}"; do
    prepare "$name" || continue
    work "$name" || break
    began=${EPOCHREALTIME/./}
    judge "$name"
    judged=$((judged + ${EPOCHREALTIME/./} - began))
  done
  read -r relations bytes pages heaps indexes < <(
    awk '{ for (i = 1; i <= 5; i++) sum[i] += $i }
      END { printf "%d %.0f %.3f %.3f %.3f\n", sum[1], sum[2], sum[3], sum[4], sum[5] }' "$run/read"
  )
  checked pages "$pages" "$bytes bytes of $relations relations were read, and every page matches its checksum"
  checked heaps "$heaps" 'every row and every pointer to TOAST is in order'
  checked indexes "$indexes" 'the entries of every B-tree are in order'
  ((${#expected[@]} > 0)) || return 0
  checked relations 0 'every database, relation and index of the census is there'
  checked rows "$(seconds "$judged")" 'every table has the rows of the census'
}

begun=${EPOCHREALTIME/./}
declare -a databases=()
declare -A expected=() extension=() # by database
: >"$run/findings"
: >"$run/checks"
: >"$run/facts"
send_heartbeats
find_clone
install_docker
pull_image
mount_clone
report_if_found
check_data_directory
report_if_found
recover
report_if_found
check_catalog
report_if_found
check_census
check_timescaledb
if [[ $KEEPER_LEVEL == full ]]; then check_contents; fi
report
