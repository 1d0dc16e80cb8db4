# shellcheck shell=bash disable=SC2016 # backticks in messages name commands
# What quickstart leaves: nothing of root's in somebody else's folder, and what is still wrong with the host. Sourced after
# ui.sh; the caller defines nixvm.

# give_back FOLDER: `sudo ./quickstart` must not lock the folder's owner out of what it made there.
give_back() {
  local owner made
  owner=$(stat --format %u:%g "$1")
  ((EUID == 0)) && [[ $owner != 0:* ]] || return 0
  for made in "$1"/output "$1"/machines "$1"/target; do
    # From within each folder and never through a link: its owner may change what is there meanwhile.
    [[ ! -d $made || -L $made ]] || find "$made" -xdev -user 0 -execdir chown --no-dereference "$owner" {} +
  done
}

# Prints what doctor warns of, each with what fixes it; nothing where all is well.
findings() { nixvm doctor 2>/dev/null | awk '/^[^ ]/ { shown = $1 != "ok" } shown' || true; }

show_findings() {
  local found
  found=$(findings)
  [[ -n $found ]] || return 0
  headline 'What `nixvm doctor` finds on this host'
  printf '%s\n' "$found"
}
