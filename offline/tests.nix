# Tests of the module system: `nix eval --file offline/tests.nix` prints `ok` or the failed tests.
let
  lib = import ./lib;
  inherit (lib) mkOption types;

  evaluate =
    modules:
    lib.evalModules {
      modules = [
        {
          options = {
            number = mkOption {
              type = types.int;
              default = 1;
            };
            list = mkOption {
              type = types.listOf types.str;
              default = [ ];
            };
            text = mkOption {
              type = types.lines;
              default = "";
            };
            maybe = mkOption {
              type = types.nullOr (types.either types.int types.str);
              default = null;
            };
            required = mkOption { type = types.str; };
            sets = mkOption {
              type = types.attrsOf (
                types.submodule (
                  { name, ... }:
                  {
                    options.title = mkOption {
                      type = types.str;
                      default = name;
                    };
                  }
                )
              );
              default = { };
            };
            settings = mkOption {
              type = types.submodule {
                freeformType = types.attrsOf types.str;
                options.known = mkOption {
                  type = types.bool;
                  default = true;
                };
              };
              default = { };
            };
            names = mkOption {
              type = types.coercedTo (types.listOf types.str) (lib.flip lib.genAttrs (_: true)) (types.attrsOf types.bool);
              default = { };
            };
          };
        }
      ]
      ++ modules;
    };
  config = modules: (evaluate modules).config;
  undeclared = modules: map (definition: definition.name) (evaluate modules).undeclared;
  fails = value: !(builtins.tryEval (builtins.deepSeq value value)).success;
  fragment = builtins.toFile "fragment.nix" ''{ list = [ "fragment" ]; }'';

  tests = {
    "a definition goes before the default" = (config [ { number = 2; } ]).number == 2;
    "mkDefault gives way, mkForce does not" =
      (config [
        { number = lib.mkDefault 2; }
        { number = 3; }
      ]).number == 3
      &&
        (config [
          { number = lib.mkForce 2; }
          { number = 3; }
        ]).number == 2;
    "two plain values conflict" = fails (config [ { number = 2; } { number = 3; } ]).number;
    "a wrong type fails" = fails (config [ { number = "2"; } ]).number;
    "an element of the wrong type fails" = fails (config [ { list = [ 1 ]; } ]).list;
    "an option without a value fails when it is used" = fails (config [ ]).required;
    "lists join in order" =
      (config [
        { list = lib.mkAfter [ "c" ]; }
        { list = [ "b" ]; }
        { list = lib.mkBefore [ "a" ]; }
      ]).list == [ "a" "b" "c" ];
    "lines join" = (config [ { text = "a"; } { text = "b"; } ]).text == "a\nb";
    "a false condition defines nothing" =
      (config [
        { number = lib.mkIf false 2; }
        (lib.mkIf false { list = [ "x" ]; })
      ]).number == 1;
    "a condition may depend on the configuration" =
      (config [
        ({ config, ... }: lib.mkIf (config.number == 2) { list = [ "x" ]; })
        { number = 2; }
      ]).list == [ "x" ];
    "mkMerge inside mkIf" = (config [ (lib.mkIf true (lib.mkMerge [ { number = 5; } { list = [ "x" ]; } ])) ]).number == 5;
    "a submodule knows its name" = (config [ { sets.one = { }; } ]).sets.one.title == "one";
    "a submodule that no condition lets through is not there" = (config [ { sets.one = lib.mkIf false { }; } ]).sets == { };
    "free settings stand beside declared ones" = (config [ { settings.other = "x"; } ]).settings == { known = true; other = "x"; };
    "a list is taken for a set of switches" = (config [ { names = [ "a" ]; } ]).names == { a = true; };
    "either takes both" = (config [ { maybe = "x"; } ]).maybe == "x" && (config [ { maybe = 1; } ]).maybe == 1;
    "a file that is imported twice counts once" = (config [ { imports = [ fragment fragment ]; } fragment ]).list == [ "fragment" ];
    "arguments come from _module.args" = (config [ { _module.args.extra = 7; } ({ extra, ... }: { number = extra; }) ]).number == 7;
    "an undeclared option is named, not refused" = undeclared [ { services.x = { enable = true; ports = [ 1 ]; }; } ] == [ "services.x.enable" "services.x.ports" ];
    "one in a submodule too" = undeclared [ { sets.one.colour = "red"; } ] == [ "sets.one.colour" ];
    "but not under a false condition" = undeclared [ { services.x = lib.mkIf false { enable = true; }; } ] == [ ];
  };
  failed = lib.attrNames (lib.filterAttrs (_: passed: !passed) tests);
in
if failed == [ ] then "ok" else throw "failed: ${lib.concatStringsSep "; " failed}"
