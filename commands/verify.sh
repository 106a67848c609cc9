#!/bin/bash
# verify: proves that this host serves the database from this volume, with a real write that is read back.
# Its last line on stdout is JSON: {"steps":[{"name","startedAt","seconds"}],"serverVersion":"…","dataChecksums":true}
# with the steps of the takeover that led here, in seconds (startedAt: since the epoch).
#
# Parameters (environment):
#   SSM_volumeId  the data volume that has to be mounted, e.g. vol-0123456789abcdef0
#   SSM_marker    what is written, ^[A-Za-z0-9_.:-]{1,100}$; use another one each time
# Exit codes: 0 it serves
#   20 /data is not that volume            21 the address is not on this host, or nothing answers on it
#   22 the write failed or was not read back, or PostgreSQL is in recovery
set -euo pipefail
export LC_ALL=C

: "${SSM_volumeId:?verify: the parameter volumeId is missing}" "${SSM_marker:?verify: the parameter marker is missing}"
readonly container=keeper-postgres
readonly device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${SSM_volumeId/-/}
readonly run=/run/keeper

fail() {
  local reason=''
  [[ ! -s $run/failure ]] || reason="; the takeover says: $(<"$run/failure")"
  echo "verify: $2$reason" >&2
  exit "$1"
}

require_volume() {
  mountpoint -q /data || fail 20 'nothing is mounted at /data'
  [[ -b $device && $(findmnt -n -o SOURCE /data) -ef $device ]] || fail 20 "what is mounted at /data is not $SSM_volumeId"
}

require_address() {
  local address
  { read -r address <"$run/address"; } 2>/dev/null || fail 21 'no takeover has put an address on this host'
  [[ -n $(ip -4 -oneline address show to "$address/32") ]] || fail 21 "the address $address is not on this host"
  { : <>"/dev/tcp/$address/5432"; } 2>/dev/null || fail 21 "nothing listens on $address port 5432"
}

# The takeover's steps as a JSON array. Their names are letters and hyphens, so nothing needs escaping.
steps() {
  local json='' name began took
  while read -r _ name began took; do
    json+=",{\"name\":\"$name\",\"startedAt\":$began,\"seconds\":$took}"
  done <"$run/steps"
  echo "[${json#,}]"
}

write_and_read_back() {
  timeout 30 docker exec -i "$container" psql -X -q -A -t -v ON_ERROR_STOP=1 -v marker="$SSM_marker" -v steps="$(steps)" \
    -U postgres -d postgres <<'SQL'
SET client_min_messages = warning;
SET statement_timeout = '20s';
INSERT INTO keeper.verification (marker) VALUES (:'marker');
DELETE FROM keeper.verification WHERE id <= (SELECT max(id) - 100 FROM keeper.verification);
SELECT json_build_object(
  'steps', :'steps'::json,
  'serverVersion', current_setting('server_version'),
  'dataChecksums', current_setting('data_checksums') = 'on')
FROM keeper.verification
WHERE id = (SELECT max(id) FROM keeper.verification) AND marker = :'marker' AND NOT pg_is_in_recovery();
SQL
}

require_volume
require_address
answer=$(write_and_read_back) || fail 22 'the database did not take a write'
[[ -n $answer ]] || fail 22 "the row $SSM_marker was written but is not the newest one, or the server is in recovery"
echo "$answer"
