# Why: these options make a guest immutable, or let nixvm reach it. This module refuses a different definition, with the
# reason: module merging would only say that two values conflict, and mkForce would pass in silence.
{
  config,
  lib,
  options,
  ...
}:
let
  fixed = {
    "boot.initrd.systemd.enable" = {
      value = true;
      because = "systemd in the initrd mounts /etc, /var and the identity volume. Remove the definition.";
    };
    "boot.loader.grub.enable" = {
      value = false;
      because = "nixvm writes the boot partition when it builds the image, and the guest installs no boot loader. Remove the definition.";
    };
    "boot.loader.systemd-boot.enable" = {
      value = false;
      because = "nixvm writes the boot partition, with systemd-boot, when it builds the image. Remove the definition.";
    };
    "boot.tmp.useTmpfs" = {
      value = true;
      because = "without a tmpfs /tmp is part of the read-only `/`. For large temporary files use /var/tmp.";
    };
    "networking.resolvconf.enable" = {
      value = false;
      because = "resolv.conf is the machine's own file and nothing may generate one: write machines/NAME/resolv.conf.";
    };
    "networking.useNetworkd" = {
      value = true;
      because = "systemd-networkd sets up the machine's network card. Configure it with systemd.network.";
    };
    "nix.enable" = {
      value = false;
      because = "the store is read-only, so a guest cannot build. Build on the host: `nixvm upgrade`.";
    };
    "services.qemuGuest.enable" = {
      value = true;
      because = "the host asks the guest's agent for the address and freezes file systems through it for a backup. Remove the definition.";
    };
    "services.resolved.enable" = {
      value = false;
      because = "resolv.conf is the machine's own file and nothing may generate one: write machines/NAME/resolv.conf.";
    };
    "services.userborn.enable" = {
      value = true;
      because = "otherwise NixOS's script for accounts writes to /etc. Remove the definition.";
    };
    "system.activatable" = {
      value = false;
      because = "a guest never switches to another system while it runs. Upgrade it from the host: `nixvm upgrade`.";
    };
    "system.etc.overlay.enable" = {
      value = true;
      because = "/etc has to stay an immutable overlay. Write files with environment.etc, or keep them below /var.";
    };
    "system.etc.overlay.mutable" = {
      value = false;
      because = ''
        /etc has to stay an immutable overlay. Write files with environment.etc; a folder below /etc that software
          writes to is kept with nixvm.persist.'';
    };
    "system.nixos-init.enable" = {
      value = true;
      because = ''
        without it activation scripts write to the read-only `/`. Remove the definition; what a script should do at
          boot belongs in a systemd service.'';
    };
    "system.switch.enable" = {
      value = false;
      because = "a guest never switches to another system while it runs. Upgrade it from the host: `nixvm upgrade`.";
    };
    "users.mutableUsers" = {
      value = false;
      because = ''
        accounts and passwords are those of the image, so that a revoked one is gone. Declare accounts in users.users;
          root's password is set with `nixvm passwd`.'';
    };
  };

  path = lib.splitString ".";
  # The offline base does not have all of them.
  present = lib.filterAttrs (name: _: lib.hasAttrByPath (path name) options) fixed;
in
{
  config = lib.mkMerge (
    lib.mapAttrsToList (
      name:
      { value, because }:
      let
        actual = lib.getAttrFromPath (path name) config;
      in
      # Stronger than NixOS's own mkDefault, and weaker than a plain definition, which is then refused.
      lib.setAttrByPath (path name) (lib.mkOverride 900 value)
      // {
        assertions = [
          {
            assertion = actual == value;
            message = "nixvm: ${name} is ${lib.boolToString actual}, but ${because}";
          }
        ];
      }
    ) present
  );
}
