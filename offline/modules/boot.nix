# The kernel, its parameters and its modules.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.boot;
  names = mkOption {
    type = types.listOf types.str;
    default = [ ];
    description = "Names of kernel modules.";
  };
  # nixpkgs takes a list of names or a set of switches.
  fileSystemNames = mkOption {
    type = types.coercedTo (types.listOf types.str) (list: lib.genAttrs list (_: true)) (types.attrsOf types.bool);
    default = { };
    description = "Types of file systems that can be mounted.";
  };
  showSysctl = value: if value == true then "1" else if value == false then "0" else toString value;
in
{
  options = {
    boot = {
      kernelPackages = mkOption {
        type = types.raw;
        default = pkgs.linuxPackages;
        description = "The kernel; Debian has one.";
      };
      kernelParams = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "The kernel's command line.";
      };
      kernelModules = names;
      blacklistedKernelModules = names;
      extraModprobeConfig = mkOption {
        type = types.lines;
        default = "";
        description = "Lines of modprobe.d(5).";
      };
      consoleLogLevel = mkOption {
        type = types.int;
        default = 4;
        description = "Messages of the kernel below this level come out on the console.";
      };
      kernel.sysctl = mkOption {
        type = types.attrsOf (
          types.nullOr (
            types.oneOf [
              types.bool
              types.int
              types.str
            ]
          )
        );
        default = { };
        description = "Parameters of the running kernel, as in sysctl.d(5).";
      };
      supportedFilesystems = fileSystemNames;
      initrd = {
        availableKernelModules = names;
        kernelModules = names;
        supportedFilesystems = fileSystemNames;
        # The base's initial ramdisk is a script that reads no such file. nixvm's modules put a host name there to make the
        # ramdisk the same for all machines, which this one is anyway.
        systemd.contents."/etc/hostname".text = mkOption {
          type = types.lines;
          default = "";
          description = "Accepted: the initial ramdisk sets no host name.";
        };
      };
    };
    system.boot.loader = {
      kernelFile = mkOption {
        type = types.str;
        default = "bzImage";
        description = "Name of the kernel in its package.";
      };
      initrdFile = mkOption {
        type = types.str;
        default = "initrd";
        description = "Name of the initial ramdisk in its package.";
      };
    };
  };

  config = {
    boot.kernelParams = [ "loglevel=${toString cfg.consoleLogLevel}" ];
    boot.initrd.availableKernelModules = [
      "erofs"
      "loop"
      "overlay"
    ]
    ++ lib.attrNames (lib.filterAttrs (_: on: on) cfg.initrd.supportedFilesystems);

    environment.etc = {
      "modules-load.d/nixos.conf" = {
        enable = cfg.kernelModules != [ ];
        text = lib.concatLines cfg.kernelModules;
      };
      "modprobe.d/nixos.conf".text =
        lib.concatMapStrings (name: "blacklist ${name}\n") cfg.blacklistedKernelModules + cfg.extraModprobeConfig;
      "sysctl.d/60-nixos.conf".text = lib.concatStrings (
        lib.mapAttrsToList (name: value: lib.optionalString (value != null) "${name}=${showSysctl value}\n") cfg.kernel.sysctl
      );
    };
  };
}
