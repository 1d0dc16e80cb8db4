# Rust with the host's toolchain, and shells. A program that runs on the host must be linked with the host's libraries, so only
# such programs are built with the host's tools; Nix's sandbox can be told to show these (on-host.sh). Crates come from the
# host's own cargo folder, so nothing is downloaded: one `cargo fetch`, or any build by hand, puts them there.
{ lib, pkgs, data }:
let
  inherit (data) rust;

  # Programs that only the host has.
  hostPackage =
    name: programs:
    pkgs.runCommand name { meta.mainProgram = lib.head programs; } ''
      mkdir -p $out/bin
      ${lib.concatMapStringsSep "\n" (program: "ln -s ${program} $out/bin/") programs}
    '';
  toolchain = programs: map (program: "${rust.bin}/${program}") programs;
in
{
  libvirt = hostPackage "libvirt" [ "/usr/bin/virsh" ];

  # `wrapProgram` is the builder's, see rust.sh; nixpkgs has it in a package.
  makeWrapper = hostPackage "make-wrapper" [ "/bin/sh" ];
  makeBinaryWrapper = pkgs.makeWrapper;

  rustPlatform.buildRustPackage =
    arguments:
    if rust.bin == "" then
      throw "the offline base builds Rust programs with the host's cargo, and there was none when it was prepared; install Rust and run offline/prepare again"
    else
      pkgs.runCommand "${arguments.pname}-${arguments.version}" {
        inherit (arguments) src;
        inherit (rust) cargoHome;
        hostPaths = [
          "/bin/bash"
          "/etc/alternatives"
          "/lib"
          "/usr"
          (dirOf rust.bin)
          "${rust.cargoHome}/registry"
        ]
        ++ lib.optional (data.system == "x86_64-linux") "/lib64";
        rustVersion = rust.version;
        nativeBuildInputs = [ (hostPackage "rust" (toolchain [ "cargo" "rustc" ])) ] ++ arguments.nativeBuildInputs or [ ];
        buildInputs = arguments.buildInputs or [ ];
        cargoFlags = toString (arguments.cargoBuildFlags or [ ]);
        postInstall = arguments.postInstall or "";
        meta = {
          mainProgram = arguments.pname;
        }
        // arguments.meta or { };
        passthru = {
          inherit (arguments) pname version;
        };
      } (builtins.readFile ./rust.sh);

  mkShell =
    {
      packages ? [ ],
      nativeBuildInputs ? [ ],
      buildInputs ? [ ],
      inputsFrom ? [ ],
      shellHook ? "",
      name ? "nix-shell",
      ...
    }@arguments:
    pkgs.runCommand name (
      removeAttrs arguments [
        "inputsFrom"
        "name"
        "packages"
      ]
      // {
        outputs = [ "out" ];
        builderDebs = [ ];
        stdenv = pkgs.stdenvSetup;
        nativeBuildInputs = packages ++ nativeBuildInputs ++ lib.concatMap (from: from.nativeBuildInputs or [ ]) inputsFrom;
        buildInputs = buildInputs ++ lib.concatMap (from: from.buildInputs or [ ]) inputsFrom;
        inherit shellHook;
      }
    ) "export -p > $out";
  mkShellNoCC = pkgs.mkShell;
}
// lib.optionalAttrs (rust.bin != "") {
  cargo = hostPackage "cargo" (toolchain [ "cargo" ]);
  rustc = hostPackage "rustc" (toolchain [ "rustc" "rustdoc" ]);
  clippy = hostPackage "clippy" (toolchain [ "cargo-clippy" "clippy-driver" ]);
  rustfmt = hostPackage "rustfmt" (toolchain [ "cargo-fmt" "rustfmt" ]);
}
