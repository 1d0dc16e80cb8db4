# The options that differ between the machines of a profile. The rendered module of a machine sets these and
# networking.hostName, and nothing else. They have types, so that a build refuses a bad value by name and no guest fails at boot.
#
# nix/evaluations.nix evaluates this file without a system around it, too.
{ config, lib, ... }:
let
  inherit (lib) types;
  ports = {
    type = types.listOf types.port;
    default = [ ];
    apply = list: lib.unique (lib.sort builtins.lessThan list);
    example = [
      22
      443
    ];
  };
  cfg = config.nixvm;
in
{
  options.nixvm =
    lib.mapAttrs
      (
        name: option:
        lib.mkOption (
          option // { apply = value: cfg.perMachine "nixvm.${name}" ((option.apply or lib.id) value); }
        )
      )
      {
      machine = {
        type = types.nullOr (types.strMatching "[a-z0-9]([a-z0-9-]*[a-z0-9])?");
        default = null;
        example = "web";
        description = "Name of the folder under machines/. Null in the image of a profile, which belongs to no machine.";
      };

      generation = {
        type = types.ints.unsigned;
        default = 0;
        example = 3;
        description = "Number of this build of the machine, counted by nixvm.";
      };

      digest = {
        type = types.nullOr (types.strMatching "[0-9a-f]{64}");
        default = null;
        example = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        description = "SHA-256 of everything the image is built from; the guest shows it in /etc/nixvm-release.";
      };

      machineId = {
        type = types.nullOr (types.strMatching "[0-9a-f]{32}");
        default = null;
        example = "0123456789abcdef0123456789abcdef";
        description = "The guest's machine-id(5), equal to the UUID of its libvirt domain.";
      };

      adminKeys = {
        type = types.listOf types.singleLineStr;
        default = [ ];
        example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… me@laptop" ];
        description = "Public keys that may log in as `admin`.";
      };

      userKeys = {
        type = types.listOf types.singleLineStr;
        default = [ ];
        example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… me@laptop" ];
        description = "Public keys that may log in as `user`.";
      };

      tcpPorts = ports // {
        description = "TCP ports that the firewall opens, besides those in networking.firewall.";
      };

      udpPorts = ports // {
        description = "UDP ports that the firewall opens, besides those in networking.firewall.";
      };

      resolvConf = {
        type = types.lines;
        default = "nameserver 1.1.1.1\nnameserver 1.0.0.1\n";
        example = "nameserver 9.9.9.9\n";
        description = "Content of the guest's resolv.conf(5).";
      };

      rootPasswordHash = {
        type = types.nullOr types.singleLineStr;
        default = null;
        example = "$y$j9T$…";
        description = ''
          A crypt(5) hash to put into the image itself. Every local user of the host, and of any cache the
          image reaches, can then read it. Null, the default, reads it from the identity volume at boot.
        '';
      };
    }
    // {
      isShared = lib.mkOption {
        type = types.bool;
        default = false;
        internal = true;
        description = "Whether this evaluation is the one that all machines of a profile share, and so knows none of them.";
      };

      perMachine = lib.mkOption {
        type = types.raw;
        internal = true;
        readOnly = true;
        default =
          name: value:
          if cfg.isShared then
            lib.warn
              "nixvm: profile `${cfg.profile}` reads ${name}, which differs between its machines; Nix evaluates each of them separately"
              (throw "nixvm: ${name} differs between the machines of profile `${cfg.profile}`")
          else
            value;
        description = "Returns the value of the option with the given name. In an evaluation that machines share it throws.";
      };
    };
}
