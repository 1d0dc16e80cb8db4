# Assertions, warnings, and the names of what a configuration sets and the base does not carry out.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (lib) mkOption types;
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
      description = "Conditions that must hold, each with the message for when it does not.";
    };
    warnings = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Messages to show at evaluation.";
    };
    system.undeclared = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "Names of options that were set and that no module declares.";
    };
    system.ignored = mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      description = "Names of declared options that were set to what the base cannot do.";
    };
    system.notCarriedOut = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "Everything that was set and has no effect in this guest.";
    };
  };
  config = {
    system.notCarriedOut = lib.sort builtins.lessThan (
      lib.unique (config.system.undeclared ++ config.system.ignored ++ config.system.missingPackages)
    );
    # Into the image's description, where nixvm's modules are in use.
    nixvm.notCarriedOut = config.system.notCarriedOut;
  };
}
