#!/bin/bash
# release: stops the database cleanly and lets go of its volume, so that it can be detached. Safe to run again.
# Afterwards this host waits for the volume like a new one: when it has gone and comes back, the database is served again.
#
# Parameters (environment): SSM_volumeId  the data volume, e.g. vol-0123456789abcdef0
# Exit codes: 0 released (now or before)
#   10 another volume is mounted at /data         11 the container did not stop
#   12 PostgreSQL did not shut down cleanly       13 /data could not be unmounted
#   14 something still uses the volume's device
# Nothing is undone on failure: running it again goes on where it ended. A server that did not run when this began needs no
# clean shutdown: whatever ended it, the next host replays its WAL.
#
# The address stays on the interface. EC2 decides where it is delivered, and until it is moved clients are refused at once
# and come again; without it their first packet would get no answer, and they would wait a second or more for nothing.
set -euo pipefail
export LC_ALL=C

readonly container=keeper-postgres
: "${SSM_volumeId:?release: the parameter volumeId is missing}"
readonly device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${SSM_volumeId/-/}
readonly released=/var/lib/keeper/released
readonly control=/data/pgdata/global/pg_control

fail() {
  echo "release: $2" >&2
  exit "$1"
}

step() {
  local now=${EPOCHREALTIME/./}
  printf 'keeper-step %s %d.%03d %d.%03d\n' "$1" $((began / 1000000)) $((began / 1000 % 1000)) \
    $(((now - began) / 1000000)) $(((now - began) / 1000 % 1000))
  began=$now
}

# What takes long in a shutdown is writing buffers: most of it is done here, while clients are still served.
final_checkpoint() {
  timeout 10 docker exec "$container" psql -X -q -U postgres -d postgres -c CHECKPOINT ||
    echo 'release: the last CHECKPOINT did not succeed within 10 s; the stop takes longer for it' >&2
}

# From here on no takeover uses the volume, not even after a reboot, before it has gone and come back.
forbid_takeover() {
  [[ -b $device ]] || return 0 # it has gone
  mkdir -p "${released%/*}"
  : >"$released"
  sync "$released"
}

# Of the 70 s that the document gives: 10 for the checkpoint, 35 for the stop, 10 each for the unmount and for the device.
stop_database() {
  timeout 35 docker stop -t 32 "$container" >/dev/null || fail 11 "the container $container does not stop"
}

# 137: it was killed. The state is the field that pg_controldata calls "Database cluster state" (1: shut down); at offset
# 16 of pg_control since PostgreSQL 8.
require_clean_shutdown() {
  local code state
  code=$(docker inspect -f '{{.State.ExitCode}}' "$container")
  state=$(od -A n -t u4 -j 16 -N 4 "$control")
  [[ $code == 0 && ${state// /} == 1 ]] ||
    fail 12 "PostgreSQL did not shut down cleanly (exit code $code, state ${state// /}); see \`docker logs $container\`"
}

# holders MAJOR:MINOR: the processes that have a file below /data open, or the device mounted where this one does not see it
holders() {
  local number=$1 process
  {
    find /proc/[0-9]*/{cwd,root,fd} \( -lname '/data' -o -lname '/data/*' \) 2>/dev/null || true
    grep -ls " $number " /proc/[0-9]*/mountinfo | while read -r process; do
      [[ ${process%/*}/ns/mnt -ef /proc/self/ns/mnt ]] || echo "$process"
    done
  } | cut -d / -f 3 | sort -u | while read -r process; do
    printf '%s(%s) ' "$(cat "/proc/$process/comm" 2>/dev/null)" "$process"
  done
}

# A umount that hangs in the kernel cannot be killed, so it is watched from outside.
unmount() {
  local number=$1 deadline=$((EPOCHSECONDS + 10)) attempt error=''
  while ((EPOCHSECONDS < deadline)); do
    umount /data >/run/keeper.umount 2>&1 &
    attempt=$!
    while kill -0 "$attempt" 2>/dev/null; do
      ((EPOCHSECONDS < deadline)) || fail 13 "unmounting /data hangs; in use by: $(holders "$number")"
      sleep 0.01
    done
    wait "$attempt" && return
    error=$(</run/keeper.umount)
    sleep 0.2
  done
  fail 13 "/data cannot be unmounted ($error); in use by: $(holders "$number")"
}

# `umount` succeeds while another mount namespace still has the file system, and detaching would cut it off. So no process
# may have the device mounted, and the kernel must give it exclusively (it does not after a lazy unmount).
require_unused() {
  local number=$1 deadline=$((EPOCHSECONDS + 10))
  while grep -qs " $number " /proc/[0-9]*/mountinfo ||
    ! python3 -I -S -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "$device" 2>/dev/null; do
    ((EPOCHSECONDS < deadline)) || fail 14 "the device of $SSM_volumeId is still in use by: $(holders "$number")"
    sleep 0.05
  done
  sync "$device"
}

# In a unit of its own, because this command ends here. Of two takeovers the second ends by itself, so that another one that
# waits already needs no attention.
take_over_again() {
  local copy=/var/lib/cloud/scripts/per-boot/keeper-takeover
  # A host that was launched by an older version of Keeper has a takeover that would not wait.
  grep -qs "$released" "$copy" || return 0
  systemd-run --quiet --collect --no-block "$copy" again ||
    echo "release: no takeover waits on this host, in case $SSM_volumeId comes back" >&2
}

mounted=false
if mountpoint -q /data; then
  mounted=true
  [[ -b $device && $(findmnt -n -o SOURCE /data) -ef $device ]] ||
    fail 10 "what is mounted at /data is not $SSM_volumeId: nothing was stopped"
fi

began=${EPOCHREALTIME/./}
state=$(docker inspect -f '{{.State.Status}}' "$container" 2>/dev/null) || state=absent
if [[ $state == running ]]; then
  final_checkpoint
  step final-checkpoint
fi
forbid_takeover
case $state in
  running)
    stop_database
    [[ $mounted == false ]] || require_clean_shutdown
    step stop-database
    ;;
  restarting) stop_database ;;
esac
if [[ -b $device ]]; then
  number=$(mountpoint -x "$device")
  [[ $mounted == false ]] || unmount "$number"
  require_unused "$number"
  step unmount
fi
take_over_again
echo "release: $SSM_volumeId is released"
