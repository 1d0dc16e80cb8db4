# The package set, as `import nixpkgs { }` gives it. It accepts `config` and ignores it: everything in Debian's
# main archive is free.
{
  system ? builtins.currentSystem,
  config ? { },
  overlays ? [ ],
  ...
}:
let
  data =
    if builtins.pathExists ./packages.json then
      builtins.fromJSON (builtins.readFile ./packages.json)
    else
      throw "the offline base has no packages yet; run offline/prepare, and use the flake it names";
  lib = import ./lib;
in
if system != data.system then
  throw "the offline base was prepared on ${data.system}, and ${system} was asked for; run offline/prepare on a host of that kind"
else
  lib.fix (lib.extends (lib.composeManyExtensions overlays) (final: import ./pkgs { inherit lib data; pkgs = final; }))
