# What a profile and the workspace say of an image. per-machine.nix has the options that differ between machines.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.nixvm = {
    profile = mkOption {
      type = types.str;
      default = "base";
      example = "docker";
      description = "Name of the profile the machine is built from.";
    };

    nixpkgsRevision = mkOption {
      type = types.str;
      default = "unknown";
      example = "8eeec934ae0dbeca3d7868c059568a65c08b2fc3";
      description = "Revision of the nixpkgs that the image is built from; set by the flake.";
    };

    image = {
      hosts = mkOption {
        type = types.package;
        internal = true;
        description = "/etc/hosts without the line for the machine's own name, which the image builder adds.";
      };

      layout = mkOption {
        type = types.enum [
          "shared"
          "whole"
        ];
        default = "shared";
        example = "whole";
        description = ''
          `shared`: the machine's disk holds only the paths that its profile's base image lacks. `whole`: the machine
          has its own base image, which it needs if its kernel, initrd, kernel parameters or root tree differ.
        '';
      };

      rootSkeleton = mkOption {
        type = types.package;
        internal = true;
        description = "Tree that becomes `/`: mount points and the few files that must exist outside the store.";
      };
    };

    notCarriedOut = mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      example = [ "services.nginx.enable" ];
      description = "Options that are set and that the package set in use does not carry out; NixOS carries out all of them.";
    };
  };
}
