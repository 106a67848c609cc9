#!/bin/bash
# takeover: a host's user data. It arms the host, waits for the data volume, and serves the database from it.
# It also runs at every later boot (cloud-init's per-boot directory), so everything may already be there.
#
# Parameters (environment, exported by the lines that the launcher inserts below the first one):
#   KEEPER_DATABASE            name of the database
#   KEEPER_REGION              AWS region
#   KEEPER_ADDRESS             the floating private IPv4 address
#   KEEPER_IMAGE               PostgreSQL image, pinned by digest
#   KEEPER_PASSWORD_PARAMETER  SecureString parameter that holds the superuser's password
#   KEEPER_VOLUME_ID           the data volume, e.g. vol-0123456789abcdef0
#   KEEPER_FORMAT_BLANK        `true` only when Keeper knows that the volume is new
#   KEEPER_TASK_TOKEN          Step Functions task to tell that the host is armed (optional)
# Exit codes: 0 the database serves; 1 it does not, and the last line on stderr says why (also in /run/keeper/failure).
set -Eeuo pipefail
export LC_ALL=C AWS_REGION=$KEEPER_REGION AWS_PAGER=

readonly container=keeper-postgres
readonly device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${KEEPER_VOLUME_ID/-/}
readonly pgdata=/data/pgdata
readonly initialising=/data/.keeper-initialising # on the volume, from mkfs until the first start succeeded
readonly run=/run/keeper
readonly password_file=$run/secret/postgres-password
readonly ready_seconds=900 # crash recovery replays about 100 MB of WAL a second, so this bounds a hang, not a recovery
token=${KEEPER_TASK_TOKEN:-}
instance=unknown

fail() {
  trap - ERR
  echo "takeover: $1" >&2
  echo "$1" >"$run/failure" || true
  # Docker would start a half-made database again, and it would accept connections
  [[ ! -e $initialising ]] || timeout 30 docker stop "$container" >/dev/null || true
  [[ -z $token ]] || timeout 20 aws stepfunctions send-task-failure --task-token "$token" \
    --error TakeoverFailed --cause "$1" || true
  report_takeover failed "${1:0:1000}"
  exit 1
}
trap '((BASH_SUBSHELL > 0)) || fail "line $LINENO: \`$BASH_COMMAND\` failed"' ERR

# step NAME: publishes what has passed since the previous step ended
step() {
  local now=${EPOCHREALTIME/./} line
  printf -v line 'keeper-step %s %d.%03d %d.%03d' "$1" $((began / 1000000)) $((began / 1000 % 1000)) \
    $(((now - began) / 1000000)) $(((now - began) / 1000 % 1000))
  echo "$line" | tee -a "$run/steps"
  began=$now
}

metadata() {
  local session
  session=$(curl -fsS --max-time 5 --retry 3 -X PUT http://169.254.169.254/latest/api/token \
    -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
  curl -fsS --max-time 5 --retry 3 "http://169.254.169.254/latest/meta-data/$1" -H "X-aws-ec2-metadata-token: $session"
}

# report_takeover OUTCOME TEXT: what the workflow goes by, because the agent of a fresh host may come minutes late
report_takeover() {
  [[ -b $device ]] || return 0 # another host's takeover is what counts
  printf '%s %s\n%s\n' "$instance" "$1" "$2" >"$run/report"
  timeout 20 aws ssm put-parameter --overwrite --name "/keeper/$KEEPER_DATABASE/takeover" --type String \
    --value "file://$run/report" >/dev/null || echo "takeover: it could not be reported that the takeover $1" >&2
}

install_for_every_boot() {
  local copy=/var/lib/cloud/scripts/per-boot/keeper-takeover
  [[ ${BASH_SOURCE[0]} -ef $copy ]] || install -D -m 0700 "${BASH_SOURCE[0]}" "$copy"
}

# A registry that hiccups must not cost a host.
try_thrice() {
  "$@" || { sleep 2 && "$@"; } || { sleep 5 && "$@"; }
}

install_docker() {
  command -v docker >/dev/null || try_thrice dnf install -y -q docker || fail 'Docker could not be installed with dnf'
  systemctl enable --now --quiet docker || fail 'the Docker service does not start'
}

pull_image() {
  docker image inspect "$KEEPER_IMAGE" >/dev/null 2>&1 || docker pull -q "$KEEPER_IMAGE" >/dev/null ||
    fail "the image $KEEPER_IMAGE could not be pulled"
  # any other signal than SIGINT makes `docker stop` wait for clients to leave, and then kill the server
  [[ $(docker image inspect -f '{{.Config.StopSignal}}' "$KEEPER_IMAGE") == SIGINT ]] ||
    fail "the image $KEEPER_IMAGE does not stop with SIGINT, so PostgreSQL would not shut down fast"
}

# The container is made while nobody waits. Docker wants the bind mount's source to exist now; it is removed again, so
# that a start without the volume fails and never initialises an empty database on the root disk.
create_container() {
  local state megabytes work_mem=16 connections=100 kilobytes
  state=$(docker inspect -f '{{.State.Status}}' "$container" 2>/dev/null) || state=absent
  [[ $state != running ]] || return 0
  [[ $state == absent ]] || docker rm "$container" >/dev/null
  read -r _ kilobytes _ </proc/meminfo
  megabytes=$((kilobytes / 1024))
  ((megabytes > 1500)) || { work_mem=8 connections=50; }
  [[ -d $pgdata ]] || mkdir -p "$pgdata"
  docker create --name "$container" --network host --shm-size 256m --stop-timeout 120 --restart on-failure \
    --log-driver local \
    --mount "type=bind,source=$pgdata,target=/var/lib/postgresql/data" \
    --mount "type=bind,source=$run/secret,target=/run/secrets,readonly" \
    --env POSTGRES_PASSWORD_FILE=/run/secrets/postgres-password \
    --env 'POSTGRES_INITDB_ARGS=--data-checksums --auth-host=scram-sha-256' \
    "$KEEPER_IMAGE" postgres \
    -c shared_buffers=$((megabytes / 4))MB -c effective_cache_size=$((megabytes * 3 / 4))MB \
    -c maintenance_work_mem=$((megabytes / 16 < 2047 ? megabytes / 16 : 2047))MB \
    -c work_mem=${work_mem}MB -c max_connections=$connections \
    -c log_destination=stderr -c logging_collector=off >/dev/null ||
    fail "the container could not be created from $KEEPER_IMAGE"
  mountpoint -q /data || rmdir "$pgdata"
}

report_armed() {
  [[ -n $token ]] || return 0
  if timeout 20 aws stepfunctions send-task-success --task-token "$token" \
    --task-output "{\"instanceId\":\"$instance\"}"; then
    token=''
  else
    echo 'takeover: Step Functions did not take the report that this host is armed; it waits for the volume anyway' >&2
  fi
}

# snooze SECONDS: sleeps without a process; nothing ever arrives on this descriptor
exec {silence}<> <(:)
snooze() {
  read -r -t "$1" -u "$silence" || true
}

wait_for_volume() {
  local polls=0
  until [[ -b $device ]]; do
    ((polls++ % 3000)) || echo "takeover: $KEEPER_DATABASE waits for $KEEPER_VOLUME_ID" # about once a minute
    snooze 0.02
  done
}

# Blank: no signature of anything, and a first MiB of nothing but zeros. What cannot be read is not blank.
is_blank() {
  local signatures beginning zeros
  signatures=$(wipefs --no-act "$device") || return 1
  beginning=$(head -c 1048576 "$device" | sha256sum) || return 1
  zeros=$(head -c 1048576 /dev/zero | sha256sum)
  [[ -z $signatures && $beginning == "$zeros" ]]
}

format_if_new() {
  [[ ${KEEPER_FORMAT_BLANK:-} == true ]] || return 0
  if is_blank; then
    mkfs.xfs -q "$device" || fail "the new volume $KEEPER_VOLUME_ID could not be formatted"
  else
    echo "takeover: $KEEPER_VOLUME_ID was announced as new but holds something: it is not formatted" >&2
  fi
}

# By device and not by UUID, and whatever its UUID (nouuid): a clone of the volume bears the same.
mount_volume() {
  if mountpoint -q /data; then
    [[ $(findmnt -n -o SOURCE /data) -ef $device ]] || fail "something else than $KEEPER_VOLUME_ID is mounted at /data"
  else
    mount -t xfs -o noatime,nouuid "$device" /data ||
      fail "$KEEPER_VOLUME_ID cannot be mounted: it is formatted only while it is new and blank; look at what it holds"
  fi
  [[ -s $pgdata/PG_VERSION && ! -e $initialising ]] || prepare_first_start
}

# Only for a file system that Keeper has just made, or whose first start never succeeded.
prepare_first_start() {
  if [[ ${KEEPER_FORMAT_BLANK:-} == true && -z $(ls -A /data) ]]; then
    touch "$initialising"
    sync -f "$initialising"
  fi
  [[ -e $initialising ]] ||
    fail "$KEEPER_VOLUME_ID holds no PostgreSQL data directory in pgdata/ and is not new: it is left as it is"
  [[ ! -e $pgdata ]] || mv "$pgdata" "$pgdata.interrupted-$EPOCHSECONDS"
  mkdir "$pgdata"
  provide_password
}

# Made on this host, kept in Parameter Store, and seen by the image's initdb through a file in memory.
provide_password() {
  local error password
  (
    umask 077
    head -c 24 /dev/urandom | base64 -w 0 | tr '+/' '-_' >"$run/generated"
  )
  if ! error=$(aws ssm put-parameter --name "$KEEPER_PASSWORD_PARAMETER" --type SecureString \
    --value "file://$run/generated" 2>&1 >/dev/null); then
    [[ $error == *ParameterAlreadyExists* ]] || fail "the password could not be stored: $error"
    password=$(aws ssm get-parameter --name "$KEEPER_PASSWORD_PARAMETER" --with-decryption \
      --query Parameter.Value --output text) || fail "the password in $KEEPER_PASSWORD_PARAMETER could not be read"
    printf '%s' "$password" >"$run/generated"
  fi
  cat "$run/generated" >"$password_file"
  rm "$run/generated"
}

# EC2 decides to which host the address is delivered. A host that has it configured refuses clients at once until the server
# listens, and they come again; where it is missing their first packet gets no answer, and they wait a second or more.
add_address() {
  local interface
  read -r _ _ _ _ interface _ < <(ip -4 route show default)
  # Amazon Linux refreshes secondary addresses and routes from the metadata by a timer, which reconfigures the interface and
  # can take this address away (github.com/amazonlinux/amazon-ec2-net-utils/issues/161). One interface needs none of it.
  systemctl mask --now --quiet "refresh-policy-routes@$interface.timer" "refresh-policy-routes@$interface.service" || true
  echo "$KEEPER_ADDRESS" >"$run/address"
  ip address replace "$KEEPER_ADDRESS/32" dev "$interface"
}

# Asks as pg_isready does: a startup message, answered by an authentication request (R) once sessions are accepted.
# Over TCP, because during the first initialisation a temporary server listens on the socket.
accepts_connections() {
  local answer
  { exec {connection}<>/dev/tcp/127.0.0.1/5432; } 2>/dev/null || return 1
  printf '\0\0\0\x17\0\x03\0\0user\0postgres\0\0' >&"$connection" || true
  IFS= read -r -t 5 -N 1 -u "$connection" answer 2>/dev/null || answer=''
  exec {connection}>&-
  [[ $answer == R ]]
}

start_database() {
  docker start "$container" >/dev/null || fail "the container does not start; see \`docker logs $container\`"
  local polls=0 deadline=$((EPOCHSECONDS + ready_seconds))
  until accepts_connections; do
    ((EPOCHSECONDS < deadline)) ||
      fail "PostgreSQL accepts no connections after $ready_seconds s and is left running; see \`docker logs $container\`"
    if ((++polls % 20 == 0)) &&
      [[ $(docker inspect -f '{{.State.Status}} {{.RestartCount}}' "$container") != 'running 0' ]]; then
      fail "PostgreSQL ended while starting: $(docker logs --tail 1 "$container" 2>&1)"
    fi
    # the server logs every refusal, so a long recovery is asked less often
    if ((polls < 200)); then snooze 0.02; else snooze 0.5; fi
  done
}

# A real write, read back.
prove() {
  local answer
  answer=$(timeout 60 docker exec -i "$container" psql -X -q -A -t -v ON_ERROR_STOP=1 -U postgres -d postgres <<SQL
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS keeper;
CREATE TABLE IF NOT EXISTS keeper.verification (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  marker text NOT NULL,
  written_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO keeper.verification (marker) VALUES ('takeover $instance');
SELECT 'written' FROM keeper.verification
WHERE id = (SELECT max(id) FROM keeper.verification) AND marker = 'takeover $instance' AND NOT pg_is_in_recovery();
SQL
  ) || fail 'PostgreSQL accepts connections and no write'
  [[ $answer == written ]] || fail 'PostgreSQL took a write and does not show it, or it is in recovery'
}

install -d -m 0700 "$run"
install -d -m 0755 "$run/secret" /data
: >"$run/steps"
rm -f "$run/failure"
[[ -e $password_file ]] || install -m 0444 /dev/null "$password_file"
began=${EPOCHREALTIME/./}

instance=$(metadata instance-id) || fail 'the instance metadata service does not tell which instance this is'
install_for_every_boot
install_docker
step install-docker
pull_image
step pull-image
create_container
step create-container
[[ ${KEEPER_FORMAT_BLANK:-} == true ]] || add_address
report_armed
step report-armed
wait_for_volume
step wait-for-volume
format_if_new
mount_volume
step mount
if [[ -e $initialising ]]; then
  # no client reaches the server before its first start has succeeded: what an interrupted one leaves behind holds nothing
  start_database
  [[ $(docker inspect -f '{{.RestartCount}}' "$container") == 0 ]] ||
    fail 'the first initialisation broke off half-way; the next takeover of this volume begins it anew'
  rm "$initialising"
  sync -f /data
  : >"$password_file"
else
  start_database
fi
add_address # again, in case the network service of Amazon Linux has taken it away meanwhile
step start-database
prove
report_takeover serves "$(<"$run/steps")"
