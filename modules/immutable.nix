# Why: nothing inside a machine, root included, may change its operating system (promise 1).
#
# A file system that can be remounted writable is not read-only, so `/` is no sealed tmpfs: it is the base
# image's erofs, which has no code to write with, on a disk that the hypervisor attaches read-only.
#
#   /            erofs, partition nixvm-base: mount points, /bin/sh, /usr/bin/env, /nix/.base/store
#   /nix/.delta  erofs, partition nixvm-delta: store/, system -> the machine's toplevel
#   /nix/store   read-only overlay of /nix/.delta/store and /nix/.base/store
#   /etc         NixOS's overlay of an erofs metadata image and the store, without an upper layer
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.nixvm;

  # Below these the mount point is made at boot; everywhere else it has to be in the image.
  writableAtBoot = [
    "/dev/"
    "/home/"
    "/proc/"
    "/root/"
    "/run/"
    "/sys/"
    "/tmp/"
    "/var/"
  ];
  mountPoints = lib.filter (path: !lib.any (prefix: lib.hasPrefix prefix path) writableAtBoot) (
    lib.attrNames config.fileSystems
  );

  # What the dynamic loader's fixed path must lead to where a profile wants foreign binaries to run (nix-ld).
  # NixOS makes the link with systemd-tmpfiles, which finds it right and leaves it alone.
  libDir = "$out/${pkgs.stdenv.hostPlatform.libDir}";
  loader = lib.optionalString (config.environment.ldso != null) ''
    mkdir -p ${libDir}
    ln -s ${config.environment.ldso} ${libDir}/$(basename ${pkgs.stdenv.cc.bintools.dynamicLinker})
  '';
in
{
  nixvm.image.rootSkeleton = lib.mkDefault (
    pkgs.runCommand "nixvm-root" { } ''
      mkdir -p $out/{bin,boot,dev,etc,home,mnt,opt,proc,root,run,srv,sys,tmp,usr/bin,var}
      mkdir -p $out/nix/{store,.base,.delta}
      ln -s ${pkgs.bashInteractive}/bin/sh $out/bin/sh
      ln -s ${pkgs.coreutils}/bin/env $out/usr/bin/env
      ${lib.concatMapStringsSep "\n" (path: "mkdir -p $out${lib.escapeShellArg path}") mountPoints}
      ${loader}
    ''
  );

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
      # Those of boot.nixStoreMountOpts, so that the initrd has no reason to mount it a second time.
      options = [
        "ro"
        "nodev"
        "nosuid"
      ];
    };
  };

  system.etc.overlay = {
    enable = true;
    mutable = false;
  };

  # NixOS's activation scripts write to `/` at every boot. nixos-init replaces them, and of what it would
  # write itself (/bin/sh and /usr/bin/env) the image already has both.
  system.nixos-init.enable = true;
  system.activatable = false;
  environment.binsh = null;
  environment.usrbinenv = null;

  # Nothing in the guest can rebuild the guest.
  nix.enable = false;
  system.switch.enable = false;
  system.disableInstallerTools = true;

  assertions =
    let
      root = config.fileSystems."/";
      etc = config.system.etc.overlay;
      lowerdir = config.fileSystems."/nix/store".overlay.lowerdir;
    in
    [
      {
        assertion = root.device == "/dev/disk/by-partlabel/nixvm-base" && root.fsType == "erofs";
        message = ''
          nixvm: fileSystems."/" is ${root.fsType} on ${toString root.device}, but `/` has to stay the base image's erofs
          or the machine is not read-only. Mount writable storage below /var, or at a mount point of its own.'';
      }
      {
        assertion = etc.enable && !etc.mutable;
        message = ''
          nixvm: system.etc.overlay has enable = ${lib.boolToString etc.enable} and mutable = ${lib.boolToString etc.mutable};
          /etc has to stay an immutable overlay. Write files with environment.etc, or keep them below /var.'';
      }
      {
        assertion = lib.last lowerdir == "/nix/.base/store" && lib.head lowerdir == "/nix/.delta/store";
        message = ''
          nixvm: fileSystems."/nix/store".overlay.lowerdir is ${toString lowerdir}, but the image holds the store in
          /nix/.delta/store and /nix/.base/store, in that order.'';
      }
      {
        assertion = config.system.nixos-init.enable;
        message = ''
          nixvm: system.nixos-init.enable is false, which brings back activation scripts that write to the read-only `/`.
          Remove the definition; what a script should do at boot belongs in a systemd service.'';
      }
    ];
}
