#!/bin/bash
# An operating system's shutdown on a host: Docker stops its containers, then SIGTERM for everybody, SIGKILL for who is left
# after ten seconds, and last the file systems.
set -uo pipefail

deadline=$((EPOCHSECONDS + 10))
in_time() { ((EPOCHSECONDS < deadline)); }

# named NAME: the ids of the processes of this name
named() {
  grep -lsx "$1" /proc/[0-9]*/comm | cut -d / -f 3
}

others() {
  local process
  for process in /proc/[0-9]*; do
    [[ $process != /proc/1 && $process != "/proc/$$" && $(cat "$process/comm" 2>/dev/null) != sleep ]] && return
  done
  return 1
}

for process in $(named dockerd); do kill -TERM "$process"; done
while [[ -n $(named dockerd) ]] && in_time; do sleep 0.05; done
kill -TERM -1
while others && in_time; do sleep 0.05; done
kill -KILL -1
umount --all --types xfs
