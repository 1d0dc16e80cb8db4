# The nixvm binary. Its source holds only the files that the build reads, so a change to a document or a profile rebuilds nothing.
{
  lib,
  rustPlatform,
  pkg-config,
  makeBinaryWrapper,
  libvirt,
  dosfstools,
  e2fsprogs,
  mtools,
  openssh,
  qemu-utils,
}:
let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
  parts = map toString [
    ../Cargo.toml
    ../Cargo.lock
    ../src
    ../templates
  ];
in
rustPlatform.buildRustPackage {
  pname = "nixvm";
  inherit (manifest.package) version;

  src = builtins.path {
    name = "nixvm-source";
    path = ../.;
    filter = path: _: lib.any (part: path == part || lib.hasPrefix "${part}/" path) parts;
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [
    makeBinaryWrapper
    pkg-config
  ];
  buildInputs = [ libvirt ];

  # `./check` runs the tests. Most of them need Nix, libvirt or QEMU, which a build sandbox does not have.
  doCheck = false;

  # Behind the user's PATH, so that the host's qemu-img, which fits the host's QEMU, comes first.
  postInstall = ''
    wrapProgram $out/bin/nixvm --suffix PATH : ${
      lib.makeBinPath [
        dosfstools
        e2fsprogs
        mtools
        openssh
        qemu-utils
      ]
    }
  '';

  meta = {
    description = "Build and manage immutable NixOS virtual machines on libvirt";
    license = lib.licenses.mit;
    mainProgram = "nixvm";
    platforms = lib.platforms.linux;
  };
}
