# The package set that a system is made from.
{
  config,
  lib,
  legacyPackages,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.nixpkgs;
in
{
  options.nixpkgs = {
    pkgs = mkOption {
      type = types.pkgs;
      default = legacyPackages.${cfg.system};
      description = "The package set.";
    };
    system = mkOption {
      type = types.str;
      default = "x86_64-linux";
      description = "The guest's system, where no package set is given.";
    };
    hostPlatform = mkOption {
      type = types.raw;
      default = cfg.pkgs.stdenv.hostPlatform;
      description = "The guest's platform.";
    };
    config = mkOption {
      type = types.attrs;
      default = { };
      description = "Accepted for nixpkgs' sake: everything the base offers is free.";
    };
  };
  config._module.args.pkgs = cfg.pkgs;
}
