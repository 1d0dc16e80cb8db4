# shellcheck shell=bash
# Reads names of files and folders of the guest's configuration, one a line, and fails if one of them runs a program of a
# package that does not have it. A package is a folder of links that Debian's packages were made into, so the guest would
# find out at boot.
set -euo pipefail
mapfile -t places
# grep ends with 1 where it finds nothing, and with 2 where a link leads to what only the guest has.
absent=$(
  { grep -rhoIsE "$NIX_STORE/[a-z0-9]{32}-[A-Za-z0-9+._?=-]+/s?bin/[A-Za-z0-9+._-]+" -- "${places[@]}" || true; } | sort -u |
    while read -r program; do
      package=${program%/*bin/*}
      if [ -f "$package/nix-support/debian-packages" ] && [ ! -L "$package/bin/${program##*/}" ]; then
        printf "\`%s\` of pkgs.%s (Debian: %s)\n" "${program##*/}" "$(cat "$package/nix-support/name")" \
          "$(paste -sd ' ' "$package/nix-support/debian-packages")"
      fi
    done
)
if [ -n "$absent" ]; then
  {
    echo "error: the configuration runs programs that their packages do not have in the offline base:"
    printf '%s\n' "$absent"
    echo "hint: name the program as Debian does, leave it out, or take this machine's packages from nixpkgs (--nixpkgs)"
  } >&2
  exit 1
fi
