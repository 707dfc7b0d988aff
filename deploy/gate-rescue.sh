#!/bin/sh
# gate-rescue.sh [DAEMON_JSON [PID_FILE]]   takes the gate out of the engine's settings, and has the engine read them again
#
# For the day on which the engine answers nobody because the gate does not answer it. Needs a shell and nothing else:
# no backupd, no Python, no jq, no sed. Defaults: /etc/docker/daemon.json, /var/run/docker.pid. Run it as root.
set -eu

file=${1:-/etc/docker/daemon.json}
pid_file=${2:-/var/run/docker.pid}
plugin='"backupd-gate"'
newline='
'

say() { printf '%s\n' "gate-rescue: $*"; }

# What is before the plugin's name loses the comma at its end, or what is after it the one at its beginning.
without_plugin() {
    before=${text%%"$plugin"*}
    after=${text#*"$plugin"}
    space=${after%%[! $tab$newline]*}
    case ${after#"$space"} in
    ,*) after=${after#"$space",} ;;
    *)
        space=${before##*[! $tab$newline]}
        case ${before%"$space"} in
        *,) before=${before%,"$space"} ;;
        esac
        ;;
    esac
    text=$before$after
}

read_file() {
    text=
    while IFS= read -r line || [ -n "$line" ]; do
        text=$text$line$newline
    done <"$file"
}

reload() {
    pid=
    [ ! -s "$pid_file" ] || read -r pid <"$pid_file" || true
    if [ -n "$pid" ] && kill -HUP "$pid" 2>/dev/null; then
        say "dockerd ($pid) reads its settings again"
    elif command -v systemctl >/dev/null 2>&1; then
        say "dockerd does not run: systemctl start docker"
        systemctl reset-failed docker 2>/dev/null || true
        systemctl start docker
    else
        say "dockerd does not run: start it as you are used to"
    fi
}

tab=$(printf '\t')
if [ ! -f "$file" ]; then
    say "there is no $file; name the engine's settings: gate-rescue.sh DAEMON_JSON [PID_FILE]"
    exit 1
fi
read_file
case $text in
*"$plugin"*)
    printf '%s' "$text" >"$file.before-gate-rescue"
    without_plugin
    printf '%s' "$text" >"$file"
    say "the gate is out of $file; as it was: $file.before-gate-rescue"
    ;;
*) say "the gate is not in $file" ;;
esac
reload
