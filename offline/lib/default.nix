# The part of nixpkgs' `lib` that machines, profiles and this flake call, under the same names and with the same meaning.
let
  lists = import ./lists.nix;
  attrs = import ./attrs.nix { inherit lists; };
  strings = import ./strings.nix { inherit lists; };
  trivial = import ./trivial.nix;
  definitions = import ./definitions.nix { inherit lib; };
  options = import ./options.nix { inherit lib; };
  modules = import ./modules.nix { inherit lib; };
  types = import ./types.nix { inherit lib; };

  lib =
    builtins.removeAttrs trivial [ "revisionWithDefault" ]
    // lists
    // attrs
    // strings
    // definitions
    // options
    // modules
    // {
      inherit
        lists
        options
        strings
        trivial
        types
        ;
      attrsets = attrs;
      modules = definitions // modules;
      asserts = {
        inherit (trivial) assertMsg assertOneOf;
      };
      generators = import ./generators.nix { inherit lib; };
      systems.flakeExposed = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # Only what `meta` attributes mention; any name is fine.
      licenses = lib.genAttrs [ "mit" "asl20" "gpl2" "gpl3" "lgpl2" "lgpl3" "bsd2" "bsd3" "mpl20" "unfree" ] (
        name: { spdxId = name; }
      );
      maintainers = { };
      platforms = {
        linux = lib.systems.flakeExposed;
        unix = lib.systems.flakeExposed;
        all = lib.systems.flakeExposed;
      };
      version = trivial.release;
    };
in
lib
