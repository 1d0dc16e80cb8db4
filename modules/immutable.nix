# Why: nothing inside a machine, root included, may change its operating system (promise 1).
#
# Root can remount a read-only tmpfs writable, so `/` is the base image's erofs instead. erofs has no code that
# writes, and the hypervisor attaches the disk read-only.
#
#   /            erofs, partition nixvm-base: mount points, /bin/sh, /usr/bin/env, /nix/.base/store
#   /nix/.delta  erofs, partition nixvm-delta: store/, system -> the machine's toplevel
#   /nix/store   read-only overlay of /nix/.delta/store and /nix/.base/store
#   /etc         NixOS's overlay of an erofs metadata image and the store, without an upper layer
{
  config,
  lib,
  options,
  ...
}:
{
  fileSystems = {
    "/" = {
      device = "/dev/disk/by-partlabel/nixvm-base";
      fsType = "erofs";
      options = [ "ro" ];
      noCheck = true; # fsck.erofs is experimental and not in the initrd; waiting for it fails the boot
    };
    "/nix/.delta" = {
      device = "/dev/disk/by-partlabel/nixvm-delta";
      fsType = "erofs";
      options = [
        "ro"
        "nodev"
        "nosuid"
      ];
      neededForBoot = true;
      noCheck = true;
    };
    "/nix/store" = {
      overlay.lowerdir = [
        "/nix/.delta/store"
        "/nix/.base/store"
      ];
      # The options of boot.nixStoreMountOpts, so that the initrd does not mount it a second time.
      options = [
        "ro"
        "nodev"
        "nosuid"
      ];
    };
  };

  # The image already has /bin/sh and /usr/bin/env. Until 26.05 null keeps nixos-init from creating them, later a switch does.
  environment =
    if options.environment ? createBinSh then
      {
        createBinSh = false;
        createUsrBinEnv = false;
      }
    else
      {
        binsh = null;
        usrbinenv = null;
      };

  system.disableInstallerTools = lib.mkDefault true;

  assertions =
    let
      root = config.fileSystems."/";
      lowerdir = config.fileSystems."/nix/store".overlay.lowerdir;
    in
    [
      {
        assertion = root.device == "/dev/disk/by-partlabel/nixvm-base" && root.fsType == "erofs";
        message = ''
          nixvm: fileSystems."/" is ${root.fsType} on ${toString root.device}, but `/` must stay the base image's erofs,
          or the machine is not read-only. Mount writable storage below /var, or at a separate mount point.'';
      }
      {
        assertion = lib.last lowerdir == "/nix/.base/store" && lib.head lowerdir == "/nix/.delta/store";
        message = ''
          nixvm: fileSystems."/nix/store".overlay.lowerdir is ${toString lowerdir}, but the image holds the store in
          /nix/.delta/store and /nix/.base/store, in that order.'';
      }
    ];
}
