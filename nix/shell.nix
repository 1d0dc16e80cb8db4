# The shell of a workspace: nixvm itself, and what it takes to work on it.
{
  pkgs,
  lib,
  nixvm,
}:
pkgs.mkShell {
  packages = [
    nixvm
  ]
  # By name, because a small package set has not all of them.
  ++ lib.filter (package: package != null) (
    map (name: pkgs.${name} or null) [
      "cargo"
      "clippy"
      "e2fsprogs"
      "jq"
      "libvirt"
      "mtools"
      "nixfmt"
      "pkg-config"
      "qemu-utils"
      "rust-analyzer"
      "rustc"
      "rustfmt"
      "shellcheck"
    ]
  );
}
