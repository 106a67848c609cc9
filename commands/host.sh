#!/bin/bash
# host: what the user data of every kind of host needs. It is no command: others include it (infra/command.ts).
# They provide `fail MESSAGE`.

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
  # with another one `docker stop` waits for clients to leave, and then kills the server
  [[ $(docker image inspect -f '{{.Config.StopSignal}}' "$KEEPER_IMAGE") == SIGINT ]] ||
    fail "the image $KEEPER_IMAGE does not stop with SIGINT: PostgreSQL would not stop fast"
}
