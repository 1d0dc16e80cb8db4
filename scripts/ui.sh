# shellcheck shell=bash
# Printing, asking, and running commands as root. Sourced, never run.

ASSUME_YES=${ASSUME_YES:-}

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  BOLD=$'\e[1m' DIM=$'\e[2m' RESET=$'\e[0m'
else
  BOLD='' DIM='' RESET=''
fi

headline() { printf '%s==> %s%s\n' "$BOLD" "$*" "$RESET"; }
note() { printf '    %s\n' "$*"; }
# A problem that does not stop the script.
warn() { printf 'warning: %s\n' "$*" >&2; }

# fail WHAT WHY WHAT-TO-DO: the same three lines as nixvm's own errors.
fail() {
  printf 'error: %s\ncause: %s\nhint: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

# Every change to the host needs a yes from here. Without a terminal nobody can agree, so it refuses.
confirm() {
  [[ -z $ASSUME_YES ]] || return 0
  if ! [[ -t 0 && -t 1 ]]; then
    fail 'cannot ask whether to continue' \
      'there is no terminal, and --yes was not given' \
      'run it again with --yes, or see what it would do with --dry-run'
  fi
  local answer
  read -r -p "    $1 [Y/n] " answer || answer=n
  [[ ${answer:-y} == [yY]* ]] ||
    fail 'stopped' 'you answered no; this step changed nothing' 'run it again at any time; it does not repeat finished steps'
}

# Runs a command as root and shows it first, so that nothing privileged happens unseen.
as_root() {
  printf '    %s# %s%s\n' "$DIM" "$*" "$RESET"
  if ((EUID == 0)); then
    "$@"
  elif ! command -v sudo >/dev/null; then
    fail "cannot run \`$1\` as root" 'you are not root, and sudo is not installed' 'run this script as root, or install sudo'
  elif [[ -t 0 ]]; then
    sudo -- "$@"
  else
    sudo --non-interactive -- "$@"
  fi
}

# as_root_write FILE MODE: standard input becomes FILE, in one step.
as_root_write() {
  local content
  content=$(mktemp)
  cat >"$content"
  as_root install -D -m "$2" "$content" "$1"
  rm -f "$content"
}

# version_at_least HAVE WANT, both like 2.18.1.
version_at_least() {
  [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

# Whether systemd is the init that runs here, not whether it is installed.
has_systemd() { [[ -d /run/systemd/system ]]; }

process_lives() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [[ -n $pid && -d /proc/$pid ]]
}
