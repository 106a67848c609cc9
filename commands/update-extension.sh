#!/bin/bash
# update-extension: brings the extension timescaledb to the version of the image, in every database that has it. Safe to run
# again. It prints a line for each: `<database>: <version before> → <version after>`.
#
# Where it fails in one database the others are updated all the same: they do not depend on each other, each uses the library
# of its own version, and running this again does what is left.
#
# No parameters.
# Exit codes: 0 every database that has the extension has the image's version of it (also when none has it)
#   40 the databases could not be listed     41 in at least one it could not be updated; stderr says which, and why
set -euo pipefail
export LC_ALL=C

readonly container=keeper-postgres

# query DATABASE OPTIONS ARGUMENTS...: psql in a session of its own. The name goes by the environment, because psql takes a
# parameter with `=` in it for a connection string; OPTIONS are settings of the session.
query() {
  docker exec --env "PGDATABASE=$1" --env "PGOPTIONS=$2" "$container" \
    psql -X -q -A -t -v ON_ERROR_STOP=1 -U postgres "${@:3}"
}

# datconnlimit -2: dropping the database was interrupted, and nobody can connect to it
databases() {
  query postgres '' --record-separator-zero \
    -c 'SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname'
}

# The library stays out of it: that of the old version may not be in the image.
installed_version() {
  query "$1" '-c timescaledb.disable_load=on' -c "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
}

# The first statement of its session, or the extension refuses it. While it waits for a lock others wait behind it, so it
# does not wait long.
update() {
  query "$1" '-c client_min_messages=warning -c lock_timeout=10s' -c 'ALTER EXTENSION timescaledb UPDATE'
}

# update_if_installed DATABASE: prints what became of it, or nothing where the extension is not installed
update_if_installed() {
  local before after
  before=$(installed_version "$1") || return
  [[ -n $before ]] || return 0
  update "$1" || return
  after=$(installed_version "$1") || return
  echo "$1: $before → $after"
}

mapfile -d '' names < <(databases)
((${#names[@]} > 0)) || { echo 'update-extension: the databases could not be listed' >&2; exit 40; }
updated=0 failed=0
for name in "${names[@]}"; do
  if ! said=$(update_if_installed "$name" 2>&1); then
    echo "update-extension: $name: $said" >&2
    failed=$((failed + 1))
  elif [[ -n $said ]]; then
    echo "$said"
    updated=$((updated + 1))
  fi
done
((failed == 0)) || { echo "update-extension: not updated in $failed of ${#names[@]} databases" >&2; exit 41; }
((updated > 0)) || echo 'update-extension: no database has the extension timescaledb'
