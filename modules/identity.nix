# Why: who a machine is must survive every image and appear in none that others can read. Names are public and
# are built in; the ssh host key and root's password hash arrive on the identity volume, a small read-only FAT
# disk that nixvm makes anew at every start, so a new password needs a restart and no build.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.nixvm;
  volume = "/run/nixvm/identity";
  hashFile = "/run/nixvm/root_password_hash";
  missing = "/run/nixvm/identity_missing";
in
{
  networking.hostName = lib.mkDefault "nixvm";

  # A real file with a final newline: "uninitialized" or an empty one makes every boot a first boot.
  environment.etc."machine-id" = lib.mkIf (cfg.machineId != null) {
    mode = "0444";
    text = cfg.machineId + "\n";
  };

  # The file says which build of the machine this is, so it lies beside the system, on the machine's own disk
  # (nix/image.nix): a system that is built again from a file with one comment more stays the same system.
  environment.etc."nixvm-release".source = "/nix/.delta/machine/nixvm-release";

  # Mounted in the initrd: userborn needs it before udev, and so before any disk, is there in the real root.
  # `nofail` with `before`: waited for, but a machine without it boots, with root locked and no host key.
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

  # userborn keeps the hash it wrote last when none is configured, and skips the account when the configured file is
  # missing. Either way a revoked password would go on working, so the file exists always and says `!*` for locked.
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
      printf '%s\n' "''${hash:-!*}" > ${hashFile}.new
      mv ${hashFile}.new ${hashFile}
    '';
  };

  # A busy host may attach the disk when the guest has stopped waiting for it. udev tells systemd of the device whenever
  # it comes, systemd mounts it, and the accounts are made once more.
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

  users.users.root =
    if cfg.rootPasswordHash != null then
      { hashedPassword = cfg.rootPasswordHash; }
    else
      { hashedPasswordFile = hashFile; };
}
