# shellcheck shell=bash
# The host's distribution and its package client. Sourced after ui.sh.

PACKAGE_TABLE=${PACKAGE_TABLE:-$ROOT/scripts/packages.table}
# An unprivileged Debian user has no sbin in PATH, where mkfs.*, sfdisk and libvirtd are.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# One field of os-release: os_release ID. NIXVM_OS_RELEASE stands in for the file in tests.
os_release() {
  local file=${NIXVM_OS_RELEASE:-/etc/os-release}
  [[ -r $file ]] || file=/usr/lib/os-release
  # shellcheck source=/dev/null
  (unset "$1" && . "$file" && printf '%s' "${!1:-}")
}

# Prints debian, fedora, arch or nixos: whose package names and client this host uses.
host_family() {
  local id
  for id in $(os_release ID) $(os_release ID_LIKE); do
    case $id in
      debian | ubuntu) echo debian && return ;;
      fedora | arch | nixos) echo "$id" && return ;;
    esac
  done
  fail "cannot install anything on \`$(os_release ID)\`" \
    'this script knows only Debian, Ubuntu, Fedora, Arch and NixOS' \
    "install the packages of scripts/packages.table by hand; then \`nixvm doctor\` says what is missing"
}

# Whether a row's requirement is met: present cmd:A,B | lib:NAME | file:GLOB,GLOB.
present() {
  local kind=${1%%:*} one matches
  local IFS=,
  for one in ${1#*:}; do
    case $kind in
      cmd) command -v "$one" >/dev/null && return ;;
      lib) pkg-config --exists "$one" 2>/dev/null && return ;;
      file)
        mapfile -t matches < <(compgen -G "$one")
        ((${#matches[@]})) && return
        ;;
    esac
  done
  return 1
}

# missing_packages GROUP...: one package a line for what these groups need and the host lacks.
# shellcheck disable=SC2034 # the columns are read by the family's name
missing_packages() {
  local family group found debian fedora arch architecture
  family=$(host_family) || exit
  [[ $family != nixos ]] || return 0
  architecture=$(uname -m)
  while read -r group found debian fedora arch; do
    [[ -n $group && $group != '#'* ]] || continue
    [[ $group != */* || ${group#*/} == "$architecture" ]] || continue
    [[ " $* " == *" ${group%/*} "* ]] || continue
    [[ ${!family} != - ]] && ! present "$found" && printf '%s\n' "${!family//+/$'\n'}"
  done <"$PACKAGE_TABLE" | awk '!seen[$0]++'
}

# The version the distribution offers of a package, without epoch and revision; empty if it has none.
offered_version() {
  case $(host_family) in
    debian) apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" { print $2 }' ;;
    fedora) dnf --quiet repoquery --latest-limit=1 --queryformat '%{version}\n' "$1" 2>/dev/null | tail -n 1 ;;
    arch) LC_ALL=C pacman -Si "$1" 2>/dev/null | awk '/^Version/ { print $3; exit }' ;;
  esac | sed 's/^[0-9]*://; s/[-+~].*//'
}

# Once a run, because a fresh container has no package lists.
refresh_package_lists() {
  [[ -z ${PACKAGE_LISTS_FRESH:-} ]] || return 0
  PACKAGE_LISTS_FRESH=1
  case $(host_family) in
    debian)
      as_root apt-get update --quiet=2 ||
        warn 'cannot refresh the package lists; continuing with the existing ones'
      ;;
  esac
}

install_packages() {
  (($#)) || return 0
  refresh_package_lists
  case $(host_family) in
    debian) apt_install "$@" ;;
    fedora) as_root dnf install --assumeyes --setopt=install_weak_deps=False "$@" ;;
    # No -y: refreshing the lists alone and then installing is the partial upgrade Arch warns of.
    arch) as_root pacman -S --needed --noconfirm "$@" ;;
  esac || fail 'cannot install some packages' \
    'see the message of the package client above' \
    'fix that (for a stale list: apt-get update, dnf makecache, pacman -Syu) and run this again'
}

apt_install() {
  local stranded
  apt_get install "$@" && return
  mapfile -t stranded < <(apt_stranded "$@")
  ((${#stranded[@]})) || return 1
  note 'These installed packages come from a source that is no longer configured, so the new packages do not fit them.'
  note "Going back to the versions that the configured sources offer: ${stranded[*]}"
  confirm 'Downgrade these packages?'
  apt_get install --allow-downgrades "${stranded[@]}" "$@"
}

# --no-remove: with --yes, apt would otherwise remove conflicting packages.
apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --no-install-recommends --no-remove \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@"
}

# apt_stranded PACKAGE...: PACKAGE=VERSION for each installed package that stands in the way and whose
# version no configured source offers any more; VERSION is the newest one that is offered.
apt_stranded() {
  local name installed offered
  LC_ALL=C apt-get install --simulate --no-install-recommends "$@" 2>&1 |
    sed -nE 's/^( |Remv )([a-z0-9][a-z0-9.+-]*) [:[].*/\2/p' | sort -u |
    while read -r name; do
      installed=$(dpkg-query --show --showformat='${Version}' "$name" 2>/dev/null) || continue
      offered=$(apt-cache madison "$name" | awk -F'|' '{ gsub(/ /, "", $2); print $2 }')
      [[ -n $offered ]] && ! grep -qxF -- "$installed" <<<"$offered" &&
        printf '%s=%s\n' "$name" "$(head -n 1 <<<"$offered")"
    done || true
}
