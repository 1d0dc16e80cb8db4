# Why: everything a machine may write and keep is on one disk, so that one disk is what snapshots and backups hold.
#
# The host formats that disk when the machine is created. The guest never does: a guest that formats what it
# cannot read destroys the data of a machine whose disk was attached wrongly once.
{ config, lib, ... }:
let
  serial = "nixvm-data";
in
{
  fileSystems = {
    "/var" = {
      # By the serial number the host gives the disk, not by label: a restored copy attached beside it has the same label.
      device = "/dev/disk/by-id/virtio-${serial}";
      fsType = "ext4";
      options = [
        "nodev"
        "noatime" # reading must not change blocks: each changed block is in the next backup
      ];
      autoResize = true; # grows with its disk: at boot by this, while it runs by the rule below
      neededForBoot = true; # users, journal and identity are read from it before anything else starts
    };
    # systemd makes the source of a bind mount, so an empty disk is enough.
    "/home" = {
      device = "/var/home";
      fsType = "none";
      options = [
        "bind"
        "nodev"
      ];
      depends = [ "/var" ];
    };
    "/root" = {
      device = "/var/roothome";
      fsType = "none";
      options = [
        "bind"
        "nodev"
      ];
      depends = [ "/var" ];
    };
  };
  # The kernel says when the host has made a disk larger. Run, not wanted (SYSTEMD_WANTS): systemd starts what a device
  # wants when that list changes, and for a second resize it is the same. Restarted, not started: systemd counts the
  # service of the boot as still active, and one that grows for an earlier resize has to look again.
  services.udev.extraRules = ''
    ACTION=="change", SUBSYSTEM=="block", KERNEL=="vd*[!0-9]", ATTR{serial}=="${serial}", ENV{RESIZE}=="1", \
      RUN+="${config.systemd.package}/bin/systemctl --no-block restart systemd-growfs@var.service"
  '';
  # The disk may be made larger step by step, and the last step counts: no limit on starts may swallow it.
  systemd.services."systemd-growfs@var" = {
    overrideStrategy = "asDropin";
    unitConfig.StartLimitIntervalSec = 0;
  };

  systemd.tmpfiles.rules = [
    "d /var/home 0755 root root -"
    "d /var/roothome 0700 root root -"
  ];

  # Kept over reboots, and bounded: by default the journal may take 4 GB, a fifth of a default /var.
  services.journald.storage = lib.mkDefault "persistent";
  services.journald.extraConfig = ''
    SystemMaxUse=256M
    RuntimeMaxUse=32M
  '';

  # Blocks that the guest has freed go back to the host's pool, once a week.
  services.fstrim.enable = lib.mkDefault true;

  # What /var holds was written by some release's services; a newer image must not reinterpret it.
  system.stateVersion = lib.mkDefault "26.05";
}
