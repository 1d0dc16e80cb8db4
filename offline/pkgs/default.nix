# The package set: `pkgs` is the finished set, with overlays.
{ lib, pkgs, data }:
let
  builders = import ./builders.nix { inherit lib pkgs data debian; };
  debian = import ./debian.nix { inherit lib pkgs data; };
  guest = import ./guest.nix { inherit lib pkgs data debian; };
  rust = import ./rust.nix { inherit lib pkgs data; };

  platform = rec {
    inherit (data) system;
    isLinux = true;
    isx86_64 = system == "x86_64-linux";
    isAarch64 = system == "aarch64-linux";
    isx86 = isx86_64;
    isAarch = isAarch64;
    is64bit = true;
    isDarwin = false;
    efiArch = if isx86_64 then "x64" else "aa64";
    libDir = if isx86_64 then "lib64" else "lib";
    linuxArch = if isx86_64 then "x86_64" else "arm64";
    parsed.cpu.name = lib.head (lib.splitString "-" system);
    config = "${parsed.cpu.name}-unknown-linux-gnu";
  };
in
debian.packages
// builders
// rust
// {
  inherit lib debian guest;
  inherit (data) system;
  hostPlatform = platform;
  buildPlatform = platform;
  targetPlatform = platform;
  config = { };

  stdenv = {
    inherit (builders) mkDerivation;
    inherit (platform) system;
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    shell = "/bin/bash";
    isLinux = true;
    cc = pkgs.gcc;
  };
  stdenvNoCC = pkgs.stdenv;
  runtimeShell = "/bin/bash";

  callPackage =
    file: arguments:
    let
      f = if lib.isFunction file then file else import file;
    in
    lib.makeOverridable f (builtins.intersectAttrs (lib.functionArgs f) pkgs // arguments);

  # The boot loader is a file of the guest's, not a program of the host's.
  systemd = debian.packages.systemd // {
    outPath = "${guest.systemd}";
    inherit (guest.systemd) drvPath;
  };
  cacert = debian.packages.cacert // {
    outPath = "${guest.cacert}";
    inherit (guest.cacert) drvPath;
  };
  # Debian has no formatter for Nix; one on the user's PATH serves.
  nixfmt-tree = pkgs.writeShellScriptBin "nixfmt-tree" ''
    command -v nixfmt >/dev/null || { echo "error: the offline base has no nixfmt; install it, or use a nixpkgs that can be reached" >&2; exit 1; }
    exec nixfmt "$@"'';
  linuxPackages = {
    inherit (guest) kernel;
  };
  linuxPackages_latest = pkgs.linuxPackages;
  linux = guest.kernel;
}
