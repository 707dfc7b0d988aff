# Shared by the scripts beside it: where things are kept, how they speak, how they get Debian packages.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=${TESTS_CACHE:-$repo/.cache}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
PATH=$PATH:/usr/sbin:/sbin

say() { echo "[$(basename "$0")] $*" >&2; }
fail() { say "$1"; exit "${2:-1}"; }

is_debian() { [ -e /etc/debian_version ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; }
is_root() { [ "$(id -u)" = 0 ]; }

# Only one process at a time does the work named $1; the others wait for it.
# The lock goes with this shell: nothing that is left running may inherit descriptor 9.
only_one() { exec 9>"$cache/$1.lock"; flock 9; }

# The Docker CLI of this machine, or what `fetch` has put into the cache where there is none.
use_cached_cli() {
    [ ! -d "$cache/bin" ] || PATH=$PATH:$cache/bin
    [ ! -e "$cache/docker-config/cli-plugins/docker-compose" ] || export DOCKER_CONFIG=$cache/docker-config
}

# Is the process whose id is in file $1 alive, and is $2 in its command line?
runs() { [ -s "$1" ] && grep -qsaF -- "$2" "/proc/$(<"$1")/cmdline"; }

# await SECONDS COMMAND…: until it succeeds
await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.2
    done
}

engine_answers() { command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; }

# Changes when a stand-in's recipe does, so that old ones are built again.
stand_in_recipe() { (cd "$here/stand-in" && find . -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16); }

# The address this machine's own sources give for Debian.
debian_mirror() {
    # shellcheck disable=SC2016  # apt fills these in
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1 || true
}

# private_apt SUITE DIR: fills APT, an apt-get that reads SUITE and touches nothing of the system's.
private_apt() {
    local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || fail "this machine's apt sources name no Debian mirror"
    mkdir -p "$2"/{lists,archives}/partial "$2/parts"
    : >"$2/status"
    echo "deb [signed-by=$keyring] $mirror $1 main" >"$2/sources.list"
    APT=(apt-get -qq -o "Dir::Etc::SourceList=$2/sources.list" -o "Dir::Etc::SourceParts=$2/parts"
        -o "Dir::State::Lists=$2/lists" -o "Dir::State::status=$2/status" -o "Dir::Cache=$2"
        -o "Dir::Cache::Archives=$2/archives" -o APT::Sandbox::User= -o Debug::NoLocking=1
        -o Acquire::Retries=3 -o Acquire::Languages=none)
    "${APT[@]}" update
}

# unpack DEB DIR: the files of a package, without its scripts; /bin may be a link to usr/bin.
unpack() { dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --keep-directory-symlink --no-same-owner; }
