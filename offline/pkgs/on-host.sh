# shellcheck shell=bash
# Runs a builder with the host's own programs, if it sees the folders of the host that it needs: on-host.sh BUILDER FOLDER...
set -euo pipefail
builder=$1
shift
for folder; do
  if [ ! -r "$folder" ]; then
    echo "error: this builder runs programs of this host, and does not see $folder" >&2
    echo "hint: root and trusted users of Nix can show it these folders, for one command:" \
      "NIX_CONFIG='extra-sandbox-paths = $*' nix ..." >&2
    exit 1
  fi
done
exec /bin/bash "$builder"
