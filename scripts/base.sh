# shellcheck shell=bash
# Chooses the nixpkgs for machines: the locked one, or the offline base. Sourced after nix.sh.

# shellcheck disable=SC2034 # for quickstart and check
OFFLINE_BASE=${XDG_CACHE_HOME:-$HOME/.cache}/nixvm/offline
# One line, read by nixvm; absent means the nixpkgs of flake.lock.
BASE_FILE=$ROOT/output/base

# Marks the line that the offline base adds to nix.conf, so that it can be removed again.
OFFLINE_MARK='# for the offline base: ./quickstart --online removes this line'

# offline_conf_missing [cacheless]: if no cache answers, every build would wait for one. A line that somebody else wrote
# stays.
offline_conf_missing() {
  [[ ${1:-} != cacheless ]] || grep -qsE '^[[:space:]]*substituters[[:space:]]*=' "$NIX_CONF" ||
    echo "substituters = $OFFLINE_MARK"
}
offline_conf_is_there() { grep -qsF -- "$OFFLINE_MARK" "$NIX_CONF"; }
remove_offline_conf() { awk -v mark="$OFFLINE_MARK" '!index($0, mark)' "$NIX_CONF" | as_root_write "$NIX_CONF" 644; }

# Prints a remark if ordinary users cannot create a user namespace here, which every builder of the offline base does
# (offline/pkgs/enter.sh). Root always can.
builders_remark() {
  local as=()
  ((EUID != 0)) || as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
  "${as[@]}" unshare --user --map-root-user --mount true &>/dev/null ||
    echo "ordinary users cannot create user namespaces here, which the base's builders need; docs/offline.md says what to do"
}

configured_caches() {
  if offline_conf_is_there; then
    NIX_CONF_DIR=/nonexistent nix_setting substituters
  else
    nix_setting substituters
  fi
}

# Prints the first configured binary cache that answers.
answering_cache() {
  local cache
  for cache in $(configured_caches); do
    if with_new_groups timeout 15 nix --extra-experimental-features nix-command --option connect-timeout 5 \
      --option download-attempts 1 store info --store "$cache" &>/dev/null; then
      echo "$cache"
      return
    fi
  done
  return 1
}

# Gets the nixpkgs that flake.lock names into the store, by its hash. With --offline it only looks there.
fetch_locked_nixpkgs() {
  NIXVM_LOCK=$ROOT/flake.lock with_new_groups timeout 900 nix --extra-experimental-features 'nix-command flakes' \
    --option connect-timeout 10 "$@" \
    eval --raw --impure --expr "
      let lock = builtins.fromJSON (builtins.readFile (builtins.getEnv \"NIXVM_LOCK\"));
      in (builtins.fetchTree lock.nodes.\${lock.nodes.root.inputs.nixpkgs}.locked).outPath" >/dev/null
}

prepare_offline_base() {
  command -v apt-get >/dev/null || fail 'cannot make the offline base on this host' \
    'it consists of Debian packages, and there is no apt to fetch them' \
    'use the locked nixpkgs (a binary cache must answer), or copy ~/.cache/nixvm/offline from a Debian host'
  local missing
  mapfile -t missing < <(missing_packages offline)
  install_packages "${missing[@]}"
  "$ROOT/offline/prepare"
}

# Whether an earlier quickstart of this user chose the offline base. If the file names something else, it came with the folder or
# was written by hand, and nixvm asks its user to confirm it.
offline_base_was_chosen() { [[ $(cat "$BASE_FILE" 2>/dev/null) == "path:$(uri_path "$(realpath -m -- "$OFFLINE_BASE")")" ]]; }

# Whether it exists and was made from the current offline/.
offline_base_is_fresh() {
  [[ -e $OFFLINE_BASE/flake.nix ]] && offline_base_was_chosen &&
    [[ -z $(find "$ROOT/offline" -newer "$BASE_FILE" -print -quit) ]]
}

write_base() {
  mkdir -p "$ROOT/output"
  printf '%s\n' "$1" >"$BASE_FILE.new"
  mv "$BASE_FILE.new" "$BASE_FILE"
}

# uri_path PATH: the path escaped for a flake reference, which is a URL. The same as src/nix/reference.rs.
uri_path() {
  local LC_ALL=C path=$1 encoded='' byte i
  for ((i = 0; i < ${#path}; i++)); do
    byte=${path:i:1}
    if [[ $byte != [a-zA-Z0-9/._~-] ]]; then
      printf -v byte %d "'$byte"
      printf -v byte %%%02X $((byte & 255))
    fi
    encoded+=$byte
  done
  echo "$encoded"
}

# path_ref FOLDER: its flake reference. Nix fails on a path that is a symbolic link.
path_ref() { echo "path:$(uri_path "$(realpath -- "$1")")"; }

# This tree as a flake. In git only tracked files count; elsewhere, and in a tree that ignores this folder, the whole
# folder would be copied into the store, secrets of machines/ and target/ included, so a copy without them stands in.
flake_ref() {
  local top below
  if git -C "$ROOT" ls-files --error-unmatch flake.nix &>/dev/null; then
    top=$(git -C "$ROOT" rev-parse --show-toplevel)
    below=$(git -C "$ROOT" rev-parse --show-prefix)
    echo "git+file://$(uri_path "$top")${below:+?dir=$(uri_path "${below%/}")}"
  else
    [[ ! -L $ROOT/output ]] || fail "$ROOT/output is a link" 'files written there would land in a place that somebody else chose' \
      'check where it leads, then remove it'
    mkdir -p "$ROOT/output"
    rm -rf "$ROOT/output/source"
    (umask 077 && mkdir -p "$ROOT/output/source/machines")
    tar -C "$ROOT" --exclude=./machines --exclude=./output --exclude=./target --exclude=./.direnv --exclude=./.git -cf - . |
      tar -C "$ROOT/output/source" -xf -
    path_ref "$ROOT/output/source"
  fi
}
