# Why: a machine's identity must survive every image, and its secrets must be in no image that others can read. Its names are
# public and come with the image: see machine.nix. The ssh host key and root's password hash arrive on the identity volume, a small read-only FAT
# disk that `nixvm start` keeps up to date, so a new password needs a restart and no build.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  volume = "/run/nixvm/identity";
  hashFile = "/run/nixvm/root_password_hash";
  missing = "/run/nixvm/identity_missing";
  # Of a self-contained machine only.
  builtInHash = "/nix/.delta/machine/root_password_hash";
in
{
  # Mounted in the initrd, because in the real root userborn needs it before udev, and so before any disk, is there.
  # `nofail` with `before`: the boot waits for it, but continues without it, with root locked and no host key.
  fileSystems.${volume} = {
    device = "/dev/disk/by-id/virtio-nixvm-identity";
    fsType = "vfat";
    options = [
      "ro"
      "umask=0077" # root only: FAT knows no modes
      "nodev"
      "noexec"
      "nosuid"
      "nofail"
      "x-systemd.before=initrd-fs.target"
    ];
    neededForBoot = true;
    noCheck = true;
  };

  # userborn keeps the previous hash if none is configured, and skips the account if the configured file is
  # missing. Either way a revoked password would still work, so the file always exists and says `!*` for locked.
  systemd.services.nixvm-identity = {
    description = "Root's password hash from the identity volume";
    requiredBy = [ "userborn.service" ];
    before = [ "userborn.service" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      UMask = "0077";
    };
    path = [ pkgs.coreutils ];
    script = ''
      mkdir -p /run/nixvm
      hash=
      if [ -r ${volume}/root_password_hash ]; then
        read -r hash < ${volume}/root_password_hash || true
        rm -f ${missing}
      else
        echo "no identity volume: root stays locked and sshd has no host key; start the machine with nixvm" >&2
        touch ${missing}
      fi
      if [ -r ${builtInHash} ]; then
        read -r hash < ${builtInHash} || true
      fi
      printf '%s\n' "''${hash:-!*}" > ${hashFile}.new
      mv ${hashFile}.new ${hashFile}
    '';
  };

  # A busy host may attach the disk after the guest has stopped waiting for it. When the device appears, udev tells systemd,
  # systemd mounts it, and this service sets up the accounts again.
  systemd.services.nixvm-identity-late = {
    description = "The identity volume, which came after the machine had booted";
    wantedBy = [ "dev-disk-by\\x2did-virtio\\x2dnixvm\\x2didentity.device" ];
    unitConfig = {
      ConditionPathExists = missing;
      RequiresMountsFor = volume;
    };
    serviceConfig.Type = "oneshot";
    script = "${config.systemd.package}/bin/systemctl restart nixvm-identity.service userborn.service";
  };

  users.users.root.hashedPasswordFile = hashFile;
}
