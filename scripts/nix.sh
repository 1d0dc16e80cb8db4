# shellcheck shell=bash disable=SC2016 # backticks in messages name commands
# A Nix that is new enough for the flake. Sourced after groups.sh.

NIX_MINIMUM=2.18
NIX_HOME=/opt/nixvm/nix
NIX_CONF=${NIX_CONF_DIR:-/etc/nix}/nix.conf
NIX_SOCKET=/nix/var/nix/daemon-socket/socket
NIX_DAEMON_PID=/run/nixvm-nix-daemon.pid

# Where a distribution's own Nix is too old: the suite of the same distribution to take it from.
nix_newer_suite() {
  case $(os_release ID) in
    debian) echo trixie main ;;
    ubuntu) echo noble main,universe ;;
  esac
}

nixc() { with_new_groups nix --extra-experimental-features 'nix-command flakes' "$@"; }

# nix_setting NAME: its effective value (the command was renamed in 2.20).
nix_setting() { nixc config show "$1" 2>/dev/null || nixc show-config "$1" 2>/dev/null || true; }

nix_version() { nix --version 2>/dev/null | awk '{ print $NF }' || true; }

nix_is_good() {
  local have
  have=$(nix_version)
  [[ -n $have ]] && version_at_least "$have" "$NIX_MINIMUM"
}

# Prints how a Nix gets here: `package NAME...`, `beside SUITE COMPONENTS`, `nixos` or `by-hand`.
nix_plan() {
  local family packages offered
  family=$(host_family) || exit
  case $family in
    debian) packages='nix-bin' ;;
    fedora | arch) packages='nix' ;;
    nixos) echo nixos && return ;;
  esac
  offered=$(offered_version "$packages")
  if [[ -n $offered ]] && version_at_least "$offered" "$NIX_MINIMUM"; then
    if has_systemd; then
      case $family in
        debian) packages+=' nix-setup-systemd' ;;
        fedora) packages+=' nix-daemon' ;;
      esac
    fi
    echo "package $packages"
  elif [[ $family == debian ]]; then
    echo "beside $(nix_newer_suite)"
  else
    echo by-hand
  fi
}

install_nix() {
  local plan
  refresh_package_lists
  read -r -a plan <<<"$(nix_plan)"
  case ${plan[0]} in
    package) install_packages "${plan[@]:1}" ;;
    beside) install_nix_beside "${plan[@]:1}" ;;
    nixos)
      fail "Nix is older than $NIX_MINIMUM" "this NixOS has Nix $(nix_version)" \
        'set nix.package = pkgs.nixVersions.latest; in configuration.nix, or upgrade NixOS'
      ;;
    *)
      fail "no Nix $NIX_MINIMUM or newer" "$(os_release PRETTY_NAME) does not package one" \
        'run the official installer (curl -L https://nixos.org/nix/install | sh -s -- --daemon), open a new shell, and run this again'
      ;;
  esac
  hash -r
  nix_is_good || fail "Nix is still older than $NIX_MINIMUM" "\`$(command -v nix || echo nix)\` says \`$(nix_version)\`" \
    'another Nix comes first in PATH: remove it or put it last'
}

# host_mirror SUFFIX: prints the mirror of a suite of this host's release, in whatever format apt's sources are. '' is the
# release itself; -updates and -security are its fixes.
host_mirror() {
  local codename
  codename=$(os_release VERSION_CODENAME)
  apt-get indextargets --format '$(RELEASE) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$codename$1" '$1 == suite || $2 == suite { print $3; exit }'
}

# suite_is_offered URI SUITE
suite_is_offered() {
  local file status=0
  file=$(mktemp)
  /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User= download-file "${1%/}/dists/$2/InRelease" "$file" &>/dev/null || status=$?
  rm -f "$file"
  return "$status"
}

# nix_sources SUITE COMPONENTS: prints a sources.list of that suite with its updates and security fixes, each from the mirror of
# this host's own release, if that mirror offers them.
nix_sources() {
  local part uri keyring options=''
  for keyring in /usr/share/keyrings/{debian,ubuntu}-archive-keyring.gpg; do
    [[ $keyring != */"$(os_release ID)"-* || ! -e $keyring ]] || options="[signed-by=$keyring] "
  done
  for part in '' -updates -security; do
    uri=$(host_mirror "$part")
    [[ -n $uri ]] || continue
    [[ -z $part ]] || suite_is_offered "$uri" "$1$part" || continue
    printf 'deb %s%s %s %s\n' "$options" "$uri" "$1$part" "${2//,/ }"
  done
}

# install_nix_beside SUITE COMPONENTS: unpacks the Nix of a newer suite with that suite's libraries into a separate
# folder. Installing the package itself would replace the host's libc.
install_nix_beside() {
  local suite=${1:-} components=${2:-} sources work
  sources=$(nix_sources "$suite" "$components")
  [[ -n $suite && $sources == "deb "*" $suite "* ]] || fail "no Nix $NIX_MINIMUM or newer" \
    "apt's sources name no mirror of $(os_release PRETTY_NAME) that could have a newer one" \
    "add the distribution's main source to /etc/apt/sources.list.d, or run the official installer from https://nixos.org/download"
  work=$(mktemp -d)
  printf '%s\n' "$sources" >"$work/sources.list"
  as_root rm -rf "$NIX_HOME.new"
  as_root mkdir -p "$NIX_HOME.new"
  as_root "$ROOT/scripts/nix-beside" unpack "$work/sources.list" "$work/apt" "$NIX_HOME.new" ||
    fail "cannot fetch the Nix of $suite" 'see the message of apt above' \
      "make \`apt-get update\` work; the mirrors of this host must offer $suite"
  as_root install -m 644 "$work/sources.list" "$NIX_HOME.new/sources.list"
  as_root install -m 755 "$ROOT/scripts/nix-beside" "$NIX_HOME.new/nix-beside"
  as_root chmod -R a+rX "$NIX_HOME.new"
  as_root rm -rf "$work" "$NIX_HOME.old"
  [[ ! -e $NIX_HOME ]] || as_root mv "$NIX_HOME" "$NIX_HOME.old"
  as_root mv "$NIX_HOME.new" "$NIX_HOME"
  as_root rm -rf "$NIX_HOME.old"
  nix_wrapper | as_root_write /usr/local/bin/nix 755
  local alias
  for alias in nix-build nix-collect-garbage nix-daemon nix-instantiate nix-shell nix-store; do
    as_root ln -sfn nix "/usr/local/bin/$alias"
  done
  install_sandbox_shell
}

# Debian's Nix gives it to builders as /bin/sh: without it no build in Nix's sandbox begins.
SANDBOX_SHELL=/usr/bin/bash-static
install_sandbox_shell() { [[ -e $SANDBOX_SHELL ]] || install_packages bash-static; }

# The Nix in $NIX_HOME is no package, so no package client updates it.
nix_is_beside() { [[ -x $NIX_HOME/bin/nix && $(readlink -f "$(command -v nix)") == /usr/local/bin/nix ]]; }

# Prints NAME=VERSION of each package that is newer than the one in $NIX_HOME; `all` if $NIX_HOME has no list of its packages.
nix_beside_newer() {
  if [[ -s $NIX_HOME/packages ]]; then
    timeout 60 "$NIX_HOME/nix-beside" newer || true
  else
    echo all
  fi
}

update_nix_beside() {
  local plan
  refresh_package_lists
  read -r -a plan <<<"$(nix_newer_suite)"
  install_nix_beside "${plan[@]}"
  reload_nix_daemon
}

# Prints a script that starts $NIX_HOME's nix through its own loader, under the name it was called by (nix-store is nix by
# another name). The loader is then the running program, and Nix would start the loader as its build hook, so the script
# switches the hook off. It does so in NIX_CONFIG, because Nix ignores an empty build-hook in nix.conf, and only if Nix builds
# without the daemon, because a user of the daemon may not set it.
nix_wrapper() {
  cat <<WRAPPER
#!/bin/sh
# Written by nixvm's quickstart: Nix from $NIX_HOME, beside the libraries of this host.
if [ ! -e /nix/var/nix/db ] || [ -w /nix/var/nix/db ]; then
  export NIX_CONFIG="build-hook =
\$NIX_CONFIG"
fi
for loader in $NIX_HOME/lib/ld-linux-*.so.*; do
  exec "\$loader" --argv0 "\${0##*/}" --library-path $NIX_HOME/lib $NIX_HOME/bin/nix "\$@"
done
WRAPPER
}

# Prints the lines that nix.conf lacks. An existing line is somebody's decision and stays.
nix_conf_missing() {
  local features
  features=" $(nix config show experimental-features 2>/dev/null || nix show-config experimental-features 2>/dev/null || true) "
  [[ $features == *' nix-command '* && $features == *' flakes '* ]] ||
    echo 'extra-experimental-features = nix-command flakes'
}

nix_conf_add() { nix_conf_append "$(nix_conf_missing)"; }

# Lines of an earlier quickstart that let builders see the whole host or run as root.
NIX_CONF_OBSOLETE='^(sandbox = false # for the offline base: .*|build-users-group =)$'
nix_conf_obsolete() { [[ $(host_family) == nixos ]] || grep -sE "$NIX_CONF_OBSOLETE" "$NIX_CONF" || true; }
nix_conf_remove_obsolete() {
  [[ -n $(nix_conf_obsolete) ]] || return 0
  awk -v obsolete="$NIX_CONF_OBSOLETE" '$0 !~ obsolete' "$NIX_CONF" | as_root_write "$NIX_CONF" 644
  reload_nix_daemon
}

# Without a daemon, root's builds run as these users; if they are missing, Nix stops.
build_users_missing() {
  local group
  ((EUID == 0)) || return 1
  group=$(NIX_CONF_DIR=/nonexistent nix_setting build-users-group)
  [[ -n $group && -z $(getent group "$group" | cut -d: -f4) ]]
}

# nix_conf_append LINES: changes nothing if LINES is empty.
nix_conf_append() {
  local text=''
  [[ -n $1 ]] || return 0
  [[ $(host_family) != nixos ]] || fail "$NIX_CONF lacks settings that nixvm needs" 'on NixOS this file comes from configuration.nix' \
    "set this under nix.settings there, and rebuild: ${1//$'\n'/; }"
  [[ ! -e $NIX_CONF ]] || text=$(cat "$NIX_CONF")
  printf '%s\n' "${text:+$text$'\n'}$1" | as_root_write "$NIX_CONF" 644
}

# An unprivileged user reaches the store through the daemon only.
nix_daemon_wanted() { ((EUID != 0)) && [[ ! -w /nix/var/nix/db ]] && ! nix_daemon_answers; }

nix_daemon_answers() {
  with_new_groups test -S "$NIX_SOCKET" &&
    with_new_groups timeout 10 nix --extra-experimental-features nix-command store info --store daemon &>/dev/null
}

# Starts the daemon; without systemd it leaves the pid in $NIX_DAEMON_PID. Builds run as build users,
# whatever nix.conf says: an unprivileged user's build must never run as root.
start_nix_daemon() {
  if has_systemd && systemctl cat nix-daemon.socket &>/dev/null; then
    as_root systemctl enable nix-daemon.socket
    # The package starts service and socket at the same time. If the service comes first, it opens the socket itself, and
    # systemd then refuses to listen on it.
    systemctl --quiet is-active nix-daemon.socket || as_root systemctl stop nix-daemon.service
    as_root systemctl start nix-daemon.socket
  else
    ensure_build_users
    if has_systemd; then
      nix_daemon_unit | as_root_write /etc/systemd/system/nix-daemon.service 644
      as_root systemctl daemon-reload
      as_root systemctl enable --now nix-daemon.service
    else
      # The caller's NIX_CONFIG must apply to the daemon too, because the daemon builds.
      as_root sh -c 'NIX_CONFIG="$3
build-users-group = nixbld" setsid "$1" </dev/null >/dev/null 2>&1 & echo $! >"$2"' \
        sh "$(command -v nix-daemon)" "$NIX_DAEMON_PID" "${NIX_CONFIG:-}"
    fi
  fi
  local tries
  for ((tries = 0; tries < 50; tries++)); do
    nix_daemon_answers && return
    sleep 0.2
  done
  fail 'the Nix daemon does not answer' "nothing answers on $NIX_SOCKET" 'run `nix-daemon` as root to see why'
}

# A daemon reads nix.conf only when it starts.
reload_nix_daemon() {
  nix_daemon_answers || return 0
  if has_systemd; then
    as_root systemctl restart nix-daemon.service
  elif process_lives "$NIX_DAEMON_PID"; then
    as_root kill "$(cat "$NIX_DAEMON_PID")"
    start_nix_daemon
  fi
}

ensure_build_users() {
  local number
  getent group nixbld >/dev/null || as_root groupadd --system nixbld
  for number in {1..8}; do
    id "nixbld$number" &>/dev/null ||
      as_root useradd --system --gid nixbld --groups nixbld --no-create-home --home-dir /var/empty \
        --shell /usr/sbin/nologin "nixbld$number"
  done
}

nix_daemon_unit() {
  cat <<UNIT
# Written by nixvm's quickstart.
[Unit]
Description=Nix Daemon
RequiresMountsFor=/nix

[Service]
Environment="NIX_CONFIG=build-users-group = nixbld"
ExecStart=$(command -v nix-daemon)
KillMode=process

[Install]
WantedBy=multi-user.target
UNIT
}
