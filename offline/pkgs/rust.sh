# shellcheck shell=bash disable=SC2154,SC2164,SC2086,SC2016,SC2155 # read by builder.sh under set -e; a derivation's attributes are variables here
# Builds the crate in $src with the host's cargo, offline, and installs its programs.
cp -r "$src" source
chmod -R u+w source
cd source

# A cargo folder of its own, so that a build neither waits for the user's cargo nor writes to what it has.
export CARGO_HOME=$PWD/../cargo CARGO_TARGET_DIR=$PWD/../target CARGO_NET_OFFLINE=true
mkdir -p "$CARGO_HOME"
for part in registry git; do
  if [ -d "$cargoHome/$part" ]; then ln -s "$cargoHome/$part" "$CARGO_HOME/$part"; fi
done
# The same bytes wherever the build folder is.
export RUSTFLAGS="--remap-path-prefix=$(dirname "$PWD")=/build --remap-path-prefix=$cargoHome=/cargo"
if ! cargo build --release --locked --offline $cargoFlags; then
  echo "hint: crates come from $cargoHome and nothing is downloaded here; run \`cargo fetch --locked\` and try again" >&2
  exit 1
fi
mkdir -p "$out/bin"
find "$CARGO_TARGET_DIR/release" -maxdepth 1 -type f -executable ! -name '*.so' -exec install -m 0755 -t "$out/bin" {} +

# nixpkgs' wrapProgram, for the arguments that change a variable.
wrapProgram() {
  local program=$1 hidden
  shift
  hidden=$(dirname "$program")/.$(basename "$program")-wrapped
  mv "$program" "$hidden"
  {
    echo '#!/bin/sh'
    while [ $# -gt 0 ]; do
      case $1 in
      --set) printf 'export %s=%q\n' "$2" "$3" && shift 3 ;;
      --prefix) printf 'export %s=%q"${%s:+%s$%s}"\n' "$2" "$4" "$2" "$3" "$2" && shift 4 ;;
      --suffix) printf 'export %s="${%s:+$%s%s}"%q\n' "$2" "$2" "$2" "$3" "$4" && shift 4 ;;
      *) echo "wrapProgram: unknown argument $1" >&2 && return 1 ;;
      esac
    done
    printf 'exec %q "$@"\n' "$hidden"
  } >"$program"
  chmod 0755 "$program"
}
eval "$postInstall"
