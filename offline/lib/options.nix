# Declarations of options.
{ lib }:
rec {
  mkOption = declaration: declaration // { _type = "option"; };
  mkEnableOption =
    what:
    mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${toString what}.";
    };
  mkPackageOption =
    pkgs: name: _:
    mkOption {
      type = lib.types.package;
      default = lib.getAttrFromPath (lib.toList name) pkgs;
      description = "The ${toString name} package.";
    };
  mkSinkUndeclaredOptions = _: mkOption { type = lib.types.raw; };
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  literalMD = literalExpression;
  mdDoc = lib.id;
}
