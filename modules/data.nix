# Why: everything a machine may write and keep is on one disk, so snapshots and backups hold one disk.
#
# The host formats that disk when it creates the machine. The guest never does: a guest that formats a disk it
# cannot read would one day destroy the data of a disk that was attached wrongly.
{ config, lib, ... }:
let
  serial = "nixvm-data";
in
{
  fileSystems = {
    "/var" = {
      # By the serial number that the host gives the disk, not by label: a copy attached beside it has the same label.
      device = "/dev/disk/by-id/virtio-${serial}";
      fsType = "ext4";
      options = [
        "nodev"
        "noatime" # reading must not change blocks: each changed block is in the next backup
      ];
      autoResize = true; # grows with its disk: at boot by this, later by the rule below
      neededForBoot = true; # users, journal and identity are read from it before anything else starts
    };
    # systemd creates the source of a bind mount, so an empty disk is enough.
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
  # The kernel reports that the host has enlarged a disk. RUN and not SYSTEMD_WANTS: systemd starts the units that a device
  # wants only when that list changes, and a second resize does not change it. Restart and not start: the service of the boot
  # counts as still active, and one that runs for an earlier resize has to look again.
  services.udev.extraRules = ''
    ACTION=="change", SUBSYSTEM=="block", KERNEL=="vd*[!0-9]", ATTR{serial}=="${serial}", ENV{RESIZE}=="1", \
      RUN+="${config.systemd.package}/bin/systemctl --no-block restart systemd-growfs@var.service"
  '';
  # Somebody may enlarge the disk in many steps, and a limit on starts must not swallow the last one.
  systemd.services."systemd-growfs@var" = {
    overrideStrategy = "asDropin";
    unitConfig.StartLimitIntervalSec = 0;
  };

  systemd.tmpfiles.rules = [
    "d /var/home 0755 root root -"
    "d /var/roothome 0700 root root -"
  ];

  # Survives reboots, with a limit: by default the journal may take 4 GB, a fifth of a default /var.
  services.journald.storage = lib.mkDefault "persistent";
  services.journald.extraConfig = ''
    SystemMaxUse=256M
    RuntimeMaxUse=32M
  '';

  # Returns freed blocks to the host's pool, once a week.
  services.fstrim.enable = lib.mkDefault true;

  # Services of one release wrote the data in /var; a newer image must not reinterpret it.
  system.stateVersion = lib.mkDefault "26.05";
}
