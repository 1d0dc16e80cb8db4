# shellcheck shell=bash
# The Debian mirrors of this host's apt. Sourced, never run, by the scripts that use Debian packages.

# find_mirrors: sets DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR (empty where there is none) to the addresses that the
# host's own packages come from; NIXVM_DEBIAN_MIRROR and NIXVM_DEBIAN_SECURITY_MIRROR override them. Fails if no mirror is
# known. It looks for Debian's label, because other publishers have suites too. If no source has that label (a mirror with its own
# label, or lists that were never fetched), it looks for the suite's name.
find_mirrors() {
  local kind label release uri main='' security=''
  DEBIAN_MIRROR=${NIXVM_DEBIAN_MIRROR-} DEBIAN_SECURITY_MIRROR=${NIXVM_DEBIAN_SECURITY_MIRROR-}
  # shellcheck disable=SC2016 # the names are apt's, not the shell's
  while IFS='|' read -r kind label release uri; do
    case $kind/$label/$release in
      Packages/Debian/*) DEBIAN_MIRROR=${DEBIAN_MIRROR:-$uri} ;;
      Packages/Debian-Security/*) DEBIAN_SECURITY_MIRROR=${DEBIAN_SECURITY_MIRROR:-$uri} ;;
      Packages/[!D]*/bookworm-security | Packages/[!D]*/trixie-security) security=${security:-$uri} ;;
      Packages/[!D]*/bookworm | Packages/[!D]*/trixie | Packages/[!D]*/stable) main=${main:-$uri} ;;
    esac
  done < <(apt-get indextargets --format '$(CREATED_BY)|$(LABEL)|$(RELEASE)|$(REPO_URI)')
  DEBIAN_MIRROR=${DEBIAN_MIRROR:-$main} DEBIAN_SECURITY_MIRROR=${DEBIAN_SECURITY_MIRROR:-$security}
  [[ -n $DEBIAN_MIRROR ]]
}

# debian_sources SUITE [OPTIONS]: prints the lines of a sources.list. Call find_mirrors before.
debian_sources() {
  local options=${2:+[$2] }
  printf 'deb %s%s %s main\n' "$options" "$DEBIAN_MIRROR" "$1"
  printf 'deb %s%s %s-updates main\n' "$options" "$DEBIAN_MIRROR" "$1"
  [[ -z $DEBIAN_SECURITY_MIRROR ]] || printf 'deb %s%s %s-security main\n' "$options" "$DEBIAN_SECURITY_MIRROR" "$1"
}

# Prints how the host's apt reaches its mirror: proxies, time limits, checks; not its hooks.
apt_acquire() { apt-config dump | grep -E '^Acquire::' | grep -vE '^Acquire::(IndexTargets|Languages|Changelogs)' || true; }
