# shellcheck shell=bash
# The groups that let an ordinary user at libvirt, KVM and Nix. Sourced after host.sh.

LIBVIRT_GROUPS=(libvirt kvm)
# Debian's own Nix lets nobody else at its daemon (nix-bin's README.Debian).
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
  note "Log in anew afterwards: your groups ($groups) reach only sessions that start from now on."
}

in_group() { id -nG "$(id -un)" | tr ' ' '\n' | grep -qxF "$1"; }
session_in_group() { id -nG | tr ' ' '\n' | grep -qxF "$1"; }

# sh_words WORD...: one line for /bin/sh, which does not know all quoting of bash's own.
sh_words() {
  local word
  for word in "$@"; do printf "'%s' " "${word//\'/\'\\\'\'}"; done
}

# Runs a command as it would run after the next login: a new group does not reach a session that is open.
with_new_groups() {
  local group
  if ((EUID != 0)); then
    for group in "${LIBVIRT_GROUPS[@]}" "${NIX_GROUPS[@]}"; do
      session_in_group "$group" || ! in_group "$group" || set -- sg "$group" -c "$(sh_words "$@")"
    done
  fi
  "$@"
}
