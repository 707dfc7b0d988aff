#!/bin/sh
# The official image's contract: options alone mean redis-server, and the server does not run as root.
set -eu
case ${1:-} in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
    # reachable from other containers, as in the official image
    set -- "$@" --protected-mode no
    if [ "$(id -u)" = 0 ]; then
        find . \! -user redis -exec chown redis:redis {} +
        exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
    fi
fi
exec "$@"
