#!/bin/bash
# grow: makes the file system as large as the data volume has become, while the database serves. Safe to run again.
# Its last line says from how many GiB to how many.
#
# Parameters (environment):
#   SSM_volumeId  the data volume, e.g. vol-0123456789abcdef0
#   SSM_sizeGiB   how large it is meant to be, in GiB
# Exit codes: 0 the file system fills its volume, which has this size or more
#   30 /data is not that volume      31 the volume's device has not become that large within a minute
#   32 the file system did not grow
set -euo pipefail
export LC_ALL=C

: "${SSM_volumeId:?grow: the parameter volumeId is missing}" "${SSM_sizeGiB:?grow: the parameter sizeGiB is missing}"
readonly device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${SSM_volumeId/-/}
readonly gib=$((1 << 30))
readonly wait_seconds=60
readonly slack=$((16 << 20)) # XFS leaves a rest unused that is too small for an allocation group of its own

fail() {
  echo "grow: $2" >&2
  exit "$1"
}

step() {
  local now=${EPOCHREALTIME/./}
  printf 'keeper-step %s %d.%03d %d.%03d\n' "$1" $((began / 1000000)) $((began / 1000 % 1000)) \
    $(((now - began) / 1000000)) $(((now - began) / 1000 % 1000))
  began=$now
}

require_volume() {
  mountpoint -q /data || fail 30 'nothing is mounted at /data'
  [[ -b $device && $(findmnt -n -o SOURCE /data) -ef $device ]] || fail 30 "what is mounted at /data is not $SSM_volumeId"
}

device_bytes() {
  blockdev --getsize64 "$device"
}

# EC2 says that the volume has its new size a moment before the guest sees it.
wait_for_device() {
  local deadline=$((EPOCHSECONDS + wait_seconds))
  until (($(device_bytes) >= SSM_sizeGiB * gib)); do
    ((EPOCHSECONDS < deadline)) ||
      fail 31 "the device of $SSM_volumeId has $(in_gib "$(device_bytes)") GiB after $wait_seconds s, and not $SSM_sizeGiB"
    sleep 0.2
  done
}

file_system_bytes() {
  local block_size blocks
  read -r block_size blocks < <(xfs_info /data | sed -n 's/^data  *= *bsize=\([0-9]*\) *blocks=\([0-9]*\),.*/\1 \2/p') ||
    fail 32 'xfs_info does not tell the size of the file system at /data'
  echo $((block_size * blocks))
}

# in_gib BYTES: rounded
in_gib() {
  echo $((($1 + gib / 2) / gib))
}

began=${EPOCHREALTIME/./}
require_volume
before=$(file_system_bytes)
wait_for_device
step wait-for-device
xfs_growfs /data >/dev/null || fail 32 "the file system of $SSM_volumeId could not be grown"
after=$(file_system_bytes)
((after > $(device_bytes) - slack)) ||
  fail 32 "the file system of $SSM_volumeId has $(in_gib "$after") GiB, its device $(in_gib "$(device_bytes)")"
step grow-file-system
echo "grow: the file system of $SSM_volumeId went from $(in_gib "$before") to $(in_gib "$after") GiB"
