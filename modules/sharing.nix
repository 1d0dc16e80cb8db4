# Why: all machines of a profile boot from one initrd, and NixOS copies settings into it that often differ between
# machines: modprobe.d, the console's keymap, the locale, the host id. None of them has an effect there, so this module gives
# the initrd the same values for all machines. The running system still has the machine's own values, from its /etc.
#
# This is for NixOS's initrd only. The initrd of the offline base is a script that contains no such file.
{ lib, modulesPath, ... }:
let
  nixosInitrd =
    { config, pkgs, ... }:
    let
      inherit (config) boot console systemd;
      inherit (boot.initrd.systemd.package) kbd;

      # The modules that are loaded before the machine's own /etc is there, and their dependencies that have
      # parameters. A line of modprobe.d about one of these must be in the initrd to have an effect.
      early =
        boot.initrd.availableKernelModules
        ++ boot.initrd.kernelModules
        ++ [
          "9pnet"
          "drm"
          "drm_kms_helper"
          "fat"
          "fuse"
          "jbd2"
          "netfs"
          "scsi_mod"
          "tpm"
          "virtio"
          "virtio_ring"
        ];
      # modprobe.d(5): names may contain `-` or `_`, and a line that ends in `\` continues in the next.
      words = line: lib.filter lib.isString (builtins.split "[[:space:]]+" line);
      underscored = map (lib.replaceStrings [ "-" ] [ "_" ]);
      concernsInitrd = line: lib.intersectLists (underscored (words line)) (underscored early) != [ ];
      modprobeLines =
        map (module: "blacklist ${module}") boot.blacklistedKernelModules
        ++ lib.splitString "\n" (lib.replaceStrings [ "\\\n" ] [ " " ] boot.extraModprobeConfig);

      # The console's settings matter only if somebody types a password in the initrd, or wants the font early.
      access = boot.initrd.systemd.emergencyAccess;
      consoleInUse =
        console.earlySetup || !(access == false || access == null) || boot.initrd.luks.devices != { };
    in
    {
      # NixOS gives these store paths to every unit, also in the initrd, which does not contain them.
      options.boot.initrd.systemd.services = lib.mkOption {
        type = lib.types.attrsOf (
          lib.types.submodule {
            environment = lib.mapAttrs (_: _: lib.mkDefault null) (
              lib.filterAttrs (_: value: lib.hasPrefix builtins.storeDir (toString value)) systemd.globalEnvironment
            );
          }
        );
      };

      config.boot.initrd.systemd = lib.mkMerge [
        {
          contents."/etc/modprobe.d/nixos.conf".source = lib.mkForce (
            pkgs.writeText "modprobe-nixos.conf" (lib.concatLines (lib.filter concernsInitrd modprobeLines))
          );
        }
        (lib.mkIf (console.enable && !consoleInUse) {
          contents = {
            "/etc/vconsole.conf".source = lib.mkForce (pkgs.writeText "vconsole.conf" "KEYMAP=us\n");
            "/etc/kbd/keymaps".source = lib.mkForce "${kbd}/share/keymaps";
          };
          suppressedStorePaths = lib.optional (lib.hasPrefix builtins.storeDir console.keyMap) "${console.keyMap}";
        })
        # Only the kernel's ZFS module reads it before /etc is there.
        (lib.mkIf (config.networking.hostId != null && !config.boot.zfs.enabled) {
          contents."/etc/hostid".enable = lib.mkForce false;
        })
      ];
    };
in
{
  imports = lib.optional (builtins.pathExists "${modulesPath}/system/boot/systemd/initrd.nix") nixosInitrd;
}
