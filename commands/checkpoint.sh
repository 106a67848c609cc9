#!/bin/bash
# checkpoint: writes dirty buffers to disk while the database serves, so that the stop that follows has little to write.
# It repeats CHECKPOINT until one takes less than a second, at most three times.
#
# Parameters (environment): SSM_seconds  time after which it gives up
# Exit codes: 0 done, or as good as it gets in this time; 1 the database did not take a CHECKPOINT at all.
set -euo pipefail
export LC_ALL=C

: "${SSM_seconds:?checkpoint: the parameter seconds is missing}"
readonly container=keeper-postgres
readonly deadline=$((EPOCHSECONDS + SSM_seconds))

for _ in 1 2 3; do
  left=$((deadline - EPOCHSECONDS))
  ((left > 0)) || break
  began=${EPOCHREALTIME/./}
  if ! timeout "$left" docker exec "$container" psql -X -q -U postgres -d postgres -c CHECKPOINT; then
    ((EPOCHSECONDS < deadline)) || break
    echo 'checkpoint: the database did not take a CHECKPOINT' >&2
    exit 1
  fi
  took=$((${EPOCHREALTIME/./} - began))
  printf 'keeper-step checkpoint %d.%03d %d.%03d\n' $((began / 1000000)) $((began / 1000 % 1000)) \
    $((took / 1000000)) $((took / 1000 % 1000))
  ((took >= 1000000)) || exit 0
done
echo "checkpoint: the last one took a second or more, or $SSM_seconds s are over: the stop has more to write" >&2
