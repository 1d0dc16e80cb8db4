# shellcheck shell=bash disable=SC2016 # backticks in messages name commands
# The end of quickstart: gives root's files back to the folder's owner, and shows the remaining problems of the host. Sourced
# after ui.sh; the caller defines nixvm.

# give_back FOLDER: `sudo ./quickstart` must not lock the folder's owner out of what it made there.
give_back() {
  local owner made
  owner=$(stat --format %u:%g "$1")
  ((EUID == 0)) && [[ $owner != 0:* ]] || return 0
  for made in "$1"/output "$1"/machines "$1"/target; do
    # From within each folder and never through a link, because its owner may change the tree meanwhile.
    [[ ! -d $made || -L $made ]] || find "$made" -xdev -user 0 -execdir chown --no-dereference "$owner" {} +
  done
}

# Prints doctor's warnings and faults with their fixes; nothing if there are none.
findings() { nixvm doctor 2>/dev/null | awk '/^[^ ]/ { shown = $1 != "ok" } shown' || true; }

show_findings() {
  local found
  found=$(findings)
  [[ -n $found ]] || return 0
  headline '`nixvm doctor` found problems on this host'
  printf '%s\n' "$found"
}
