# Why: all machines of a profile boot from one initrd, and NixOS copies settings into it that a machine may well have of
# its own: modprobe.d, the console's keymap, the locale, the host id. None of them has an effect there, so the initrd gets
# what is the same for all; the running system has the machine's own values all the same, for it reads them in its /etc.
#
# NixOS's initrd only. The offline base's is a script that holds no such file.
{ lib, modulesPath, ... }:
let
  nixosInitrd =
    { config, pkgs, ... }:
    let
      inherit (config) boot console systemd;
      inherit (boot.initrd.systemd.package) kbd;

      # The modules that are loaded before the machine's own /etc is there, and those of them with parameters that others
      # pull in. What a line of modprobe.d says about one of these has to be in the initrd or is lost.
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
      # modprobe.d(5): names may be written with `-` or `_`, and a line that ends in `\` goes on in the next.
      words = line: lib.filter lib.isString (builtins.split "[[:space:]]+" line);
      underscored = map (lib.replaceStrings [ "-" ] [ "_" ]);
      concernsInitrd = line: lib.intersectLists (underscored (words line)) (underscored early) != [ ];
      modprobeLines =
        map (module: "blacklist ${module}") boot.blacklistedKernelModules
        ++ lib.splitString "\n" (lib.replaceStrings [ "\\\n" ] [ " " ] boot.extraModprobeConfig);

      # Only who types a password in the initrd, or wants its font there, has a use for the console's settings.
      access = boot.initrd.systemd.emergencyAccess;
      consoleInUse =
        console.earlySetup || !(access == false || access == null) || boot.initrd.luks.devices != { };
    in
    {
      # Store paths that NixOS gives every unit, the initrd's too, where nothing of them is.
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
        # The kernel's module of ZFS reads it; nothing else does before /etc is there.
        (lib.mkIf (config.networking.hostId != null && !config.boot.zfs.enabled) {
          contents."/etc/hostid".enable = lib.mkForce false;
        })
      ];
    };
in
{
  imports = lib.optional (builtins.pathExists "${modulesPath}/system/boot/systemd/initrd.nix") nixosInitrd;
}
