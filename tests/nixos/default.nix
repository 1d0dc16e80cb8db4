# Evaluates modules on a profile as a machine's image would, and gives the result of each. ./run evaluates a few at a time.
#
#   works.NAME     the path of the derivation of a system that must evaluate, or the messages that refuse it
#   refused.NAME   "ok" for a module that was refused with the words in `says`, or the actual messages
#
# On the offline base, which has few of NixOS's options, it evaluates only the modules that ./offline-base.nix names.
{
  # The path of a nixpkgs, or of the offline base.
  nixpkgs,
}:
let
  inherit (import ../nixpkgs.nix nixpkgs) isNixos lib nixosSystem;
  pkgs = import nixpkgs {
    system = builtins.currentSystem;
    config.allowUnfree = true;
    # A nixpkgs that was reduced to fit a test machine has no Haskell, which makes manuals and looks through scripts.
    overlays = lib.optional isNixos (
      _: before:
      lib.genAttrs [ "pandoc" "shellcheck" ] (
        name:
        if before.haskellPackages ? pandoc-cli then
          before.${name}
        else
          before.hello // { compiler.bootstrapAvailable = false; }
      )
    );
  };

  machine = {
    networking.hostName = "web";
    nixvm = {
      machine = "web";
      profile = "core";
      machineId = "0123456789abcdef0123456789abcdef";
      adminKeys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq0G6BJb2VX1Wq3ChYwS3n3JmNG6v0Ue9cVq7b2h3kX test" ];
    };
  };
  evaluate =
    module:
    (nixosSystem {
      specialArgs.profiles = { };
      modules = [
        ../../profiles/core.nix
        machine
        { nixpkgs.pkgs = pkgs; }
        module
      ];
    }).config;
  failed = config: map (entry: entry.message) (lib.filter (entry: !entry.assertion) config.assertions);

  chosen = kind: cases: if isNixos then cases else lib.genAttrs (import ./offline-base.nix).${kind} (name: cases.${name});
in
{
  works = lib.mapAttrs (
    _: module:
    let
      config = evaluate module;
      messages = failed config;
    in
    if messages == [ ] then
      builtins.unsafeDiscardStringContext config.system.build.toplevel.drvPath
    else
      "refused: ${lib.concatStringsSep "\n" messages}"
  ) (chosen "works" (import ./works.nix { inherit lib; }));

  refused = lib.mapAttrs (
    _:
    { module, says }:
    let
      messages = failed (evaluate module);
      isSaid = words: lib.any (message: lib.hasPrefix "nixvm: " message && lib.hasInfix words message) messages;
      missing = lib.filter (words: !isSaid words) says;
    in
    if missing == [ ] then
      "ok"
    else
      "nothing says ${builtins.toJSON missing}: ${builtins.toJSON messages}"
  ) (chosen "refused" (import ./refused.nix { inherit lib; }));
}
