# Options for parts that a guest of the offline base does not have. Their default needs nothing; any other value is listed
# as not carried out.
{ config, lib, ... }:
let
  absent = {
    "boot.bcache.enable" = false;
    "boot.enableContainers" = false;
    "boot.growPartition" = false;
    "boot.initrd.includeDefaultModules" = false;
    "boot.initrd.systemd.dbus.enable" = false;
    "boot.initrd.systemd.enable" = true;
    "boot.initrd.systemd.fido2.enable" = false;
    "boot.initrd.systemd.tpm2.enable" = false;
    "boot.initrd.verbose" = false;
    "boot.kexec.enable" = false;
    "boot.loader.efi.canTouchEfiVariables" = false;
    "boot.loader.grub.enable" = false;
    "boot.loader.systemd-boot.enable" = false;
    "boot.loader.timeout" = 0;
    "boot.swraid.enable" = false;
    "documentation.doc.enable" = false;
    "documentation.enable" = false;
    "documentation.info.enable" = false;
    "documentation.man.enable" = false;
    "documentation.nixos.enable" = false;
    "environment.binsh" = null;
    "environment.defaultPackages" = [ ];
    "environment.ldso" = null;
    "environment.stub-ld.enable" = false;
    "environment.usrbinenv" = null;
    "fonts.fontconfig.enable" = false;
    "hardware.enableRedistributableFirmware" = false;
    "networking.resolvconf.enable" = false;
    "networking.wireless.enable" = false;
    "nix.channel.enable" = false;
    "nix.enable" = false;
    "powerManagement.enable" = false;
    "programs.command-not-found.enable" = false;
    "programs.ssh.setXAuthLocation" = false;
    "security.polkit.enable" = false;
    "services.lvm.enable" = false;
    "services.resolved.enable" = false;
    "services.udisks2.enable" = false;
    "swapDevices" = [ ];
    "system.activatable" = false;
    "system.disableInstallerTools" = true;
    "system.nixos-init.enable" = true;
    "system.switch.enable" = false;
    "users.allowNoPasswordLogin" = true;
    "users.mutableUsers" = false;
    "xdg.autostart.enable" = false;
    "xdg.icons.enable" = false;
    "xdg.mime.enable" = false;
    "xdg.sounds.enable" = false;
    # nix-ld is not needed: Debian's binaries find their loader and libraries in the usual places.
    "programs.nix-ld.enable" = true;
  };
  # Both values are fine if the option only allows something that the guest does anyway.
  either = [
    "programs.nix-ld.enable"
    "users.allowNoPasswordLogin"
  ];
  path = lib.splitString ".";
in
{
  options = lib.foldl' lib.recursiveUpdate { } (
    lib.mapAttrsToList (
      name: value:
      lib.setAttrByPath (path name) (
        lib.mkOption {
          type = lib.types.raw;
          default = value;
          description = "Satisfied by ${builtins.toJSON value}; nothing else is carried out.";
        }
      )
    ) absent
  );
  config.system.ignored = lib.filter (
    name: !lib.elem name either && lib.getAttrFromPath (path name) config != absent.${name}
  ) (lib.attrNames absent);
}
