# shellcheck shell=bash
# A Rust toolchain that can build nixvm. Sourced after host.sh.

PATH=$PATH:$HOME/.cargo/bin

rust_minimum() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

# The version of the cargo that runs here; empty where there is none (rustup without a toolchain is none).
cargo_version() { cargo --version 2>/dev/null | awk '{ print $2 }' || true; }

rust_is_good() {
  local have
  have=$(cargo_version)
  [[ -n $have ]] && version_at_least "$have" "$(rust_minimum)"
}

# Prints the distribution's packages with a new enough cargo, on one line; nothing if there are none.
# Debian 12 has a current compiler beside its old one, to build its browsers: cargo-web.
rust_offer() {
  local wanted packages version
  wanted=$(rust_minimum)
  for packages in 'cargo rustc' 'cargo-web rustc-web' 'rust'; do
    version=$(offered_version "${packages%% *}")
    if [[ -n $version ]] && version_at_least "$version" "$wanted"; then
      echo "$packages"
      return
    fi
  done
  [[ -z $(offered_version rustup) ]] || echo rustup
}

install_rust() {
  local packages
  refresh_package_lists
  read -r -a packages <<<"$(rust_offer)"
  ((${#packages[@]})) || fail "no Rust $(rust_minimum) or newer" \
    "this host has cargo \`$(cargo_version)\`, and $(os_release PRETTY_NAME) offers no newer one" \
    'install Rust as https://rustup.rs describes, or configure a binary cache so that Nix builds nixvm'
  if [[ ${packages[0]} != rustup ]] || ! command -v rustup >/dev/null; then
    install_packages "${packages[@]}"
  fi
  if [[ ${packages[0]} == rustup ]]; then
    rustup toolchain install stable --profile minimal --component clippy,rustfmt
    rustup default stable
  fi
  hash -r
  rust_is_good || fail "cargo is still older than $(rust_minimum)" \
    "\`$(command -v cargo || echo cargo)\` says \`$(cargo_version)\`" \
    'check the order of PATH, and whether a rust-toolchain.toml or RUSTUP_TOOLCHAIN selects another version'
}
