# The only interface between nixvm and a guest's system: the rendered module of a machine sets these options and
# `networking`'s host name and ports, nothing else. The options have types, so that a build refuses a bad value by name
# and no guest fails at boot.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.nixvm = {
    machine = mkOption {
      type = types.nullOr (types.strMatching "[a-z0-9]([a-z0-9-]*[a-z0-9])?");
      default = null;
      example = "web";
      description = "Name of the folder under machines/. Null in the image of a profile, which belongs to no machine.";
    };

    profile = mkOption {
      type = types.str;
      default = "base";
      example = "docker";
      description = "Name of the profile the machine is built from.";
    };

    generation = mkOption {
      type = types.ints.unsigned;
      default = 0;
      example = 3;
      description = "Number of this build of the machine, counted by nixvm.";
    };

    digest = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-f]{64}");
      default = null;
      example = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
      description = "SHA-256 of everything the image is built from; the guest shows it in /etc/nixvm-release.";
    };

    nixpkgsRevision = mkOption {
      type = types.str;
      default = "unknown";
      example = "8eeec934ae0dbeca3d7868c059568a65c08b2fc3";
      description = "Revision of the nixpkgs that the image is built from; set by the flake.";
    };

    machineId = mkOption {
      type = types.nullOr (types.strMatching "[0-9a-f]{32}");
      default = null;
      example = "0123456789abcdef0123456789abcdef";
      description = "The guest's machine-id(5), equal to the UUID of its libvirt domain.";
    };

    adminKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… me@laptop" ];
      description = "Public keys that may log in as `admin`.";
    };

    userKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… me@laptop" ];
      description = "Public keys that may log in as `user`.";
    };

    resolvConf = mkOption {
      type = types.lines;
      default = "nameserver 1.1.1.1\nnameserver 1.0.0.1\n";
      example = "nameserver 9.9.9.9\n";
      description = "Content of the guest's resolv.conf(5).";
    };

    rootPasswordHash = mkOption {
      type = types.nullOr types.singleLineStr;
      default = null;
      example = "$y$j9T$…";
      description = ''
        A crypt(5) hash to put into the image itself. Every local user of the host, and of any cache the
        image reaches, can then read it. Null, the default, reads it from the identity volume at boot.
      '';
    };

    image = {
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
