# `lib.nixosSystem`: evaluates modules on top of the base's own, which carry them out for a Debian guest.
{ legacyPackages }:
{
  modules,
  specialArgs ? { },
  system ? null,
  pkgs ? null,
  ...
}:
let
  lib = import ./lib;
  ours = toString ./.;
  evaluated = lib.evalModules {
    specialArgs = {
      modulesPath = "${./modules}";
    }
    // specialArgs;
    modules = import ./modules/module-list.nix ++ [
      {
        _file = "${ours}/system.nix";
        config = {
          _module.args.legacyPackages = legacyPackages;
          nixpkgs = lib.mkMerge [
            (lib.mkIf (system != null) { system = lib.mkDefault system; })
            (lib.mkIf (pkgs != null) { inherit pkgs; })
          ];
          # The base's own definitions are not requests of the user.
          system.undeclared = map (definition: definition.name) (
            lib.filter (definition: !lib.all (lib.hasPrefix ours) definition.files) evaluated.undeclared
          );
        };
      }
    ]
    ++ modules;
  };
in
{
  inherit (evaluated) config options;
  inherit lib;
  inherit (evaluated.config.nixpkgs) pkgs;
}
