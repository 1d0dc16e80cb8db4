# The parts of a nixpkgs, or of the offline base, that tests evaluate systems with. Not as flakes: Nix would copy all of nixpkgs to
# the store.
nixpkgs:
let
  isNixos = builtins.pathExists (nixpkgs + "/nixos/lib/eval-config.nix");
  inherit (if isNixos then { lib = import (nixpkgs + "/lib"); } else (import (nixpkgs + "/flake.nix")).outputs { }) lib;
in
{
  inherit isNixos lib;
  nixosSystem =
    if isNixos then
      arguments: import (nixpkgs + "/nixos/lib/eval-config.nix") ({ system = null; } // arguments)
    else
      lib.nixosSystem;
  # The workspace's own profiles, by name.
  profileFiles = lib.mapAttrs' (
    file: _: lib.nameValuePair (lib.removeSuffix ".nix" file) (../profiles + "/${file}")
  ) (builtins.readDir ../profiles);
}
