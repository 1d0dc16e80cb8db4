# /etc: an erofs image of the modules' files, over the configuration files of the Debian packages. The initial ramdisk
# mounts both as one overlay without an upper layer, so nothing can write to it and no remount changes that.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  entries = lib.filter (entry: entry.enable) (lib.attrValues config.environment.etc);
  byTarget = f: chosen: lib.listToAttrs (map (entry: lib.nameValuePair entry.target (f entry)) chosen);

  entryModule =
    { name, config, ... }:
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether the file is there.";
        };
        target = mkOption {
          type = types.str;
          default = name;
          apply = lib.removePrefix "/etc/";
          description = "Path below /etc.";
        };
        text = mkOption {
          type = types.nullOr types.lines;
          default = null;
          description = "The file's content.";
        };
        source = mkOption {
          type = types.nullOr types.path;
          default = null;
          description = "What the file is a link to, or a copy of where it has a mode.";
        };
        mode = mkOption {
          type = types.str;
          default = "symlink";
          description = "The file's mode in octal digits, or `symlink` for a link to `source`.";
        };
        user = mkOption {
          type = types.enum [ "root" ];
          default = "root";
          description = "Owner; the image holds root's files only.";
        };
        group = mkOption {
          type = types.enum [ "root" ];
          default = "root";
          description = "Group; the image holds root's files only.";
        };
        uid = mkOption {
          type = types.enum [ 0 ];
          default = 0;
          description = "Owner, as a number.";
        };
        gid = mkOption {
          type = types.enum [ 0 ];
          default = 0;
          description = "Group, as a number.";
        };
      };
    };
in
{
  options = {
    environment.etc = mkOption {
      type = types.attrsOf (types.submodule entryModule);
      default = { };
      description = "Files below /etc.";
    };
    system.etc.overlay = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Always on: /etc is an overlay.";
      };
      mutable = mkOption {
        type = types.bool;
        default = false;
        description = "Always off: nothing writes to /etc.";
      };
    };
    system.build.etc = mkOption {
      type = types.package;
      internal = true;
      description = "The erofs image of /etc.";
    };
  };

  config = {
    system.ignored =
      lib.optional (!config.system.etc.overlay.enable) "system.etc.overlay.enable"
      ++ lib.optional config.system.etc.overlay.mutable "system.etc.overlay.mutable";

    system.build.etc = pkgs.runCommand "etc.erofs" {
      __structuredAttrs = true;
      nativeBuildInputs = [ pkgs.erofs-utils ];
      texts = byTarget (entry: entry.text) (lib.filter (entry: entry.text != null) entries);
      sources = byTarget (entry: "${entry.source}") (
        lib.filter (entry: entry.text == null && entry.source != null) entries
      );
      modes = byTarget (entry: entry.mode) (lib.filter (entry: entry.mode != "symlink") entries);
      checkPrograms = ./check-programs.sh;
    } (builtins.readFile ./etc.sh);
  };
}
