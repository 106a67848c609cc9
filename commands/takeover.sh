#!/bin/bash
# takeover: a host's user data. It arms the host, waits for the data volume, and serves the database from it.
# Everything may be there already: it also runs at every later boot (cloud-init's per-boot directory) and, with the argument
# `again`, when the host has released the volume, which may come back (`journalctl -t keeper-takeover`).
#
# Parameters (environment; the launcher inserts `export` lines below the first one):
#   KEEPER_DATABASE            name of the database
#   KEEPER_REGION              AWS region
#   KEEPER_ADDRESS             the floating private IPv4 address
#   KEEPER_IMAGE               PostgreSQL image, pinned by digest
#   KEEPER_PASSWORD_PARAMETER  SecureString parameter with the superuser's password
#   KEEPER_VOLUME_ID           the data volume
#   KEEPER_FORMAT_BLANK        `true` only when the volume is known to be new
#   KEEPER_TASK_TOKEN          task of Step Functions that waits for the host to be armed (optional)
# Exit codes: 0 the database serves; 1 it does not, and the last line on stderr says why (also in /run/keeper/failure).
set -Eeuo pipefail
export LC_ALL=C AWS_REGION=$KEEPER_REGION AWS_PAGER=

readonly container=keeper-postgres
readonly device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${KEEPER_VOLUME_ID/-/}
readonly pgdata=/data/pgdata
readonly initialising=/data/.keeper-initialising # on the volume, from mkfs until the first start succeeded
readonly released=/var/lib/keeper/released # written by the release command
readonly run=/run/keeper
readonly password_file=$run/secret/postgres-password
readonly ready_seconds=900 # crash recovery replays about 100 MB of WAL a second: this bounds a hang
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

# step NAME: publishes the time since the previous step
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
  [[ -b $device && ! -e $released ]] || return 0 # another host's takeover is what counts
  report "$@"
}

report() {
  printf '%s %s\n%s\n' "$instance" "$1" "$2" >"$run/report"
  timeout 20 aws ssm put-parameter --overwrite --name "/keeper/$KEEPER_DATABASE/takeover" --type String \
    --value "file://$run/report" >/dev/null || echo "takeover: it could not be reported: $instance $1" >&2
}

install_for_every_boot() {
  local copy=/var/lib/cloud/scripts/per-boot/keeper-takeover
  [[ ${BASH_SOURCE[0]} -ef $copy ]] || install -D -m 0700 "${BASH_SOURCE[0]}" "$copy"
}

# snooze SECONDS: sleeps without a process; nothing ever arrives on this descriptor
exec {silence}<> <(:)
snooze() {
  read -r -t "$1" -u "$silence" || true
}

# One at a time. A takeover that a release has broken off may need a moment to end.
wait_for_turn() {
  exec {lock}>"$run/lock"
  flock --timeout 120 "$lock" || { echo 'takeover: another one is at work on this host' >&2 && exit 1; }
}

# A released volume is not this host's, however often it boots, until it has gone and comes back.
# EC2 sees nothing of it: a volume that nobody takes away is reported, so that reconcile does.
leave_released_volume() {
  local deadline=$((EPOCHSECONDS + 15))
  echo "takeover: $KEEPER_VOLUME_ID was released ($released): it is left alone until it has been detached"
  while [[ -b $device ]] && ((EPOCHSECONDS < deadline)); do snooze 0.02; done
  if [[ -b $device ]] && instance=$(metadata instance-id); then
    report released "$KEEPER_VOLUME_ID was not taken away"
  fi
  while [[ -b $device ]]; do snooze 0.02; done
  rm "$released"
  token='' # its task has long ended
}

# include: host.sh

# For the memory of this host. On the command line, where nothing on the volume overrides them.
choose_settings() {
  local kilobytes megabytes work_mem=16 connections=100
  read -r _ kilobytes _ </proc/meminfo
  megabytes=$((kilobytes/1024))
  ((megabytes > 1500)) || { work_mem=8 connections=50; }
  settings=(shared_buffers=$((megabytes/4))MB effective_cache_size=$((megabytes*3/4))MB
    maintenance_work_mem=$((megabytes/16 < 2047 ? megabytes/16 : 2047))MB
    "work_mem=${work_mem}MB" "max_connections=$connections")
}

# Docker wants the bind mount's source to exist now; it is removed again, so that a start without the volume fails and
# never initialises an empty database on the root disk.
create_container() {
  local state
  state=$(docker inspect -f '{{.State.Status}}' "$container" 2>/dev/null) || state=absent
  [[ $state != running ]] || return 0
  [[ $state == absent ]] || docker rm "$container" >/dev/null
  [[ -d $pgdata ]] || mkdir -p "$pgdata"
  docker create --name "$container" --network host --shm-size 256m --stop-timeout 120 --restart on-failure \
    --log-driver local \
    --mount "type=bind,source=$pgdata,target=/var/lib/postgresql/data" \
    --mount "type=bind,source=$run/secret,target=/run/secrets,readonly" \
    --env POSTGRES_PASSWORD_FILE=/run/secrets/postgres-password \
    --env 'POSTGRES_INITDB_ARGS=--data-checksums --auth-host=scram-sha-256' \
    "$KEEPER_IMAGE" postgres "${settings[@]/#/--}" --log_destination=stderr --logging_collector=off >/dev/null ||
    fail "the container could not be created from $KEEPER_IMAGE"
  mountpoint -q /data || rmdir "$pgdata"
}

report_armed() {
  [[ -n $token ]] || return 0
  if timeout 20 aws stepfunctions send-task-success --task-token "$token" \
    --task-output "{\"instanceId\":\"$instance\"}"; then
    token=''
  else
    echo 'takeover: Step Functions did not take the report that this host is armed' >&2
  fi
}

wait_for_volume() {
  local polls=0
  until [[ -b $device ]]; do
    ((polls++ % 3000)) || echo "takeover: $KEEPER_DATABASE waits for $KEEPER_VOLUME_ID" # about once a minute
    snooze 0.02
  done
}

# Blank: no signature, and a first MiB of nothing but zeros. What cannot be read is not blank.
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

# By device, and whatever its UUID (nouuid): a clone of the volume bears the same.
mount_volume() {
  if mountpoint -q /data; then
    [[ $(findmnt -n -o SOURCE /data) -ef $device ]] || fail "something else than $KEEPER_VOLUME_ID is mounted at /data"
  else
    mount -t xfs -o noatime,nouuid "$device" /data ||
      fail "$KEEPER_VOLUME_ID cannot be mounted: it is formatted only while it is new and blank; look at what it holds"
  fi
  [[ -s $pgdata/PG_VERSION && ! -e $initialising ]] || prepare_first_start
}

# Only for a file system just made, or whose first start never succeeded.
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

# Made here, kept in Parameter Store, and seen by the image's initdb through a file in memory.
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

# EC2 decides which host gets the packets. One that has the address refuses clients at once until the server listens, and
# they come again; otherwise they wait a second or more for an answer.
add_address() {
  local interface
  read -r _ _ _ _ interface _ < <(ip -4 route show default)
  # The timer by which Amazon Linux refreshes addresses from the metadata can take this one away
  # (github.com/amazonlinux/amazon-ec2-net-utils/issues/161); with one interface it is not needed.
  systemctl mask --now --quiet "refresh-policy-routes@$interface.timer" "refresh-policy-routes@$interface.service" || true
  echo "$KEEPER_ADDRESS" >"$run/address"
  ip address replace "$KEEPER_ADDRESS/32" dev "$interface"
}

# Asks as pg_isready does: a startup message, answered by an authentication request (R) once sessions are accepted.
# Over TCP: during the first initialisation a temporary server listens on the socket.
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
wait_for_turn
[[ ${1:-} != again || -e $released ]] || exit 0 # the one before has done it
: >"$run/steps"
rm -f "$run"/{failure,report}
[[ ! -e $released ]] || leave_released_volume
[[ -e $password_file ]] || install -m 0444 /dev/null "$password_file"
began=${EPOCHREALTIME/./}

instance=$(metadata instance-id) || fail 'the metadata service does not tell the instance id'
install_for_every_boot
install_docker
step install-docker
pull_image
step pull-image
choose_settings
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
  # no client reaches the server before its first start has succeeded: what an interrupted one leaves holds nothing
  start_database
  [[ $(docker inspect -f '{{.RestartCount}}' "$container") == 0 ]] ||
    fail 'the first initialisation broke off half-way; the next takeover of this volume begins it anew'
  rm "$initialising"
  sync -f /data
  : >"$password_file"
else
  start_database
fi
add_address # in case the network service has taken it away meanwhile
step start-database
prove
report_takeover serves "$(<"$run/steps")
keeper-settings ${settings[*]}"
xfs_growfs /data >/dev/null || echo "takeover: /data could not be grown to the size of its volume" >&2
