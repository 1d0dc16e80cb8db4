# shellcheck shell=bash disable=SC2016 # what is single-quoted is for another shell
# The groups that let an ordinary user use libvirt, KVM and Nix. Sourced after host.sh.

LIBVIRT_GROUPS=(libvirt kvm)
# Debian's own Nix lets only members use its daemon (nix-bin's README.Debian).
NIX_GROUPS=(nix-users)

# groups_missing GROUP...: those of this host that the user is not yet in.
groups_missing() {
  local group
  ((EUID != 0)) || return 0
  for group in "$@"; do
    if getent group "$group" >/dev/null && ! in_group "$group"; then echo "$group"; fi
  done
}

# join_groups GROUP...
join_groups() {
  local groups
  groups=$(groups_missing "$@" | paste -sd,)
  [[ -n $groups ]] || return 0
  as_root usermod --append --groups "$groups" "$(id -un)"
  note "Log in again afterwards: only sessions that start from now on have your new groups ($groups)."
}

in_group() { id -nG "$(id -un)" | tr ' ' '\n' | grep -qxF "$1"; }
session_in_group() { id -nG | tr ' ' '\n' | grep -qxF "$1"; }

# Runs a command as it would run after the next login: a new group does not reach a session that is open.
with_new_groups() {
  local group
  for group in "${LIBVIRT_GROUPS[@]}" "${NIX_GROUPS[@]}"; do
    if ((EUID != 0)) && in_group "$group" && ! session_in_group "$group"; then
      with_all_groups "$@"
      return
    fi
  done
  "$@"
}

# sg(1) takes one group, and util-linux's forgets the one before. sudo hands on no environment.
with_all_groups() {
  local environment status=0
  environment=$(mktemp)
  export -p >"$environment"
  sudo setpriv --reuid "$(id -u)" --regid "$(id -g)" --init-groups \
    env -i bash -c 'source "$0" && exec "$@"' "$environment" "$@" || status=$?
  rm -f "$environment"
  return "$status"
}
