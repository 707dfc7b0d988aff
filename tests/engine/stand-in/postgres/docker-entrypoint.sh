#!/bin/bash
# The part of the official image's contract that backupd's demo and tests use.
set -euo pipefail

user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
[ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(<"$POSTGRES_PASSWORD_FILE")
case ${1:-} in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    find "$PGDATA" \! -user postgres -exec chown postgres {} +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

initialise() {
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        exit 1
    fi
    # shellcheck disable=SC2086  # several options in one variable, as in the official image
    initdb --username="$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-}") ${POSTGRES_INITDB_ARGS:-}
    echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
}

run_scripts() {
    local file
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w start
    if [ "$database" != postgres ]; then createdb --username="$user" "$database"; fi
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sql) echo "$0: running $file"; psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d "$database" -f "$file" ;;
        *.sh) echo "$0: running $file"; bash "$file" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initialise
    run_scripts
    echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "$@"
