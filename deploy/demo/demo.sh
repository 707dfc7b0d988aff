#!/bin/bash
# Writes rows and keys, lets backupd save both volumes, destroys them, restores them, and compares everything.
# `make demo` calls it with an engine, compose and backupd in place.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d "${TMPDIR:-/tmp}/backupd-demo.XXXXXX")
daemon=
# no setting of the user's
for setting in "${!BACKUPD_@}"; do unset "$setting"; done
export COMPOSE_PROJECT_NAME=demo API_PORT=0 PIP_CONF=$work/pip.conf CA_BUNDLE=$work/ca.pem
export BACKUPD_STORAGE=$work/backups BACKUPD_STATE_DIR=$work/state BACKUPD_INSTANCE=backupd-demo
export BACKUPD_CONFIG=$PWD/backupd.toml

title() { printf '\n== %s\n' "$*"; }
run() { echo "\$ $*"; "$@"; }
fail() { printf '\ndemo failed: %s\n' "$*" >&2; exit 1; }
volumes() { docker volume ls -q --filter label=com.docker.compose.project=demo; }

cleanup() {
    local code=$?
    trap - EXIT INT TERM
    if [ "$code" != 0 ] && [ -s "$work/daemon.log" ]; then
        echo "-- the daemon's last words" >&2
        tail -n 30 "$work/daemon.log" >&2
    fi
    stop_daemon || true
    docker compose down -v --remove-orphans >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$code"
}

refuse_to_touch_another_demo() {
    local found
    found=$(volumes; docker ps -aq --filter label=com.docker.compose.project=demo)
    [ -z "$found" ] || fail "a compose project called demo exists on this engine and would be lost:" \
        "remove it with 'docker compose -p demo down -v' if that is what you want"
}

address() { echo "http://$(docker compose port api 8080)$1"; }
get() { if command -v curl >/dev/null; then curl -fsS "$1"; else fetch "$1"; fi; }
post() { if command -v curl >/dev/null; then curl -fsS --data-binary "@$2" "$1"; else fetch "$1" "$2"; fi; }
fetch() {
    python3 -c 'import sys, urllib.request as r
body = open(sys.argv[2], "rb").read() if sys.argv[2:] else None
sys.stdout.write(r.urlopen(sys.argv[1], body).read().decode())' "$@"
}

make_data() {
    python3 - "$work" <<'END'
import json, sys
from pathlib import Path
orders = [{"id": n, "customer": f"customer-{n % 97:02}", "cents": n * 7919 % 100_000} for n in range(1, 1001)]
baskets = [{"customer": f"{n:03}", "items": f"{n} apples, {n * n} pears, naïve café"} for n in range(200)]
for name, written in {"orders": orders, "baskets": baskets}.items():
    Path(sys.argv[1], name + ".written").write_text(json.dumps(written) + "\n")
END
}

write_through_api() {
    local what
    for what in orders baskets; do
        echo "\$ curl --data-binary @$what.json $(address "/$what")"
        post "$(address "/$what")" "$work/$what.written"
    done
}

compare_with_written() {
    local what
    for what in orders baskets; do
        echo "\$ curl $(address "/$what")"
        get "$(address "/$what")" >"$work/$what.read"
        cmp "$work/$what.written" "$work/$what.read" || fail "$what differ from what was written"
        echo "$(python3 -c 'import json, sys; print(len(json.load(sys.stdin)))' <"$work/$what.read") $what, as written"
    done
}

start_daemon() {
    run backupd init
    echo "\$ backupd run &"
    backupd run >"$work/daemon.log" 2>&1 &
    daemon=$!
}

stop_daemon() {
    [ -n "$daemon" ] || return 0
    local pid=$daemon
    daemon=
    kill "$pid" 2>/dev/null || true
    wait "$pid"
}

# The names of the volumes that have a snapshot.
saved() {
    backupd snapshots --json | python3 -c 'import json, sys
print(*sorted({manifest["volume"]["name"] for manifest in json.load(sys.stdin)}))'
}

wait_for_snapshots() {
    local deadline=$((SECONDS + 90)) names
    while names=" $(saved) "; [[ $names != *" demo_postgres_data "* || $names != *" demo_redis_data "* ]]; do
        kill -0 "$daemon" 2>/dev/null || fail "the daemon has ended"
        [ $SECONDS -lt $deadline ] || fail "no snapshot of both volumes after 90 s, only of:$names"
        sleep 1
    done
    run backupd snapshots
}

refuse_to_touch_another_demo
trap cleanup EXIT
trap 'exit 130' INT TERM
mkdir "$work/state"
python3 pip_settings.py "$work"

title "an application with two volumes, labelled backupd.enable=true, a snapshot every five seconds"
run docker compose build --quiet
run docker compose up -d --wait
make_data
write_through_api
compare_with_written

title "backupd saves the volumes"
echo "\$ export BACKUPD_STORAGE=$BACKUPD_STORAGE BACKUPD_STATE_DIR=$BACKUPD_STATE_DIR"
start_daemon
wait_for_snapshots
stop_daemon || fail "the daemon ended with exit code $?"

title "the accident"
run docker compose down -v
run docker volume ls --filter label=com.docker.compose.project=demo
[ -z "$(volumes)" ] || fail "the volumes are still there"

title "backupd brings them back"
run backupd restore --project demo --yes
run docker compose up -d --wait
compare_with_written
printf '\nEvery row and every key is back.\n'
