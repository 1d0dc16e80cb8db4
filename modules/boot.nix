# Why: all machines of a profile boot from one ESP (promise 2), so kernel, initrd and kernel parameters must
# contain nothing of a single machine. The image builder writes the ESP; the guest has no boot loader to manage.
{
  config,
  lib,
  pkgs,
  modulesPath,
  ...
}:
let
  serial = if pkgs.stdenv.hostPlatform.isAarch64 then "ttyAMA0" else "ttyS0";
in
{
  imports = [ "${modulesPath}/profiles/qemu-guest.nix" ];

  # NixOS puts the host name there for the first lines of the journal, which would make one initrd per machine.
  boot.initrd.systemd.contents."/etc/hostname".text = lib.mkForce "nixvm\n";
  boot.initrd.availableKernelModules = [
    "erofs"
    "overlay"
    "loop"
  ];
  # qemu-guest.nix names the modules for the disks. The default list is for hardware: SATA, USB, LVM.
  boot.initrd.includeDefaultModules = lib.mkDefault false;
  # A virtual machine has no security key, and nothing in this initrd is encrypted or uses D-Bus: systemctl reaches
  # systemd without it.
  boot.initrd.systemd.dbus.enable = lib.mkDefault false;
  boot.initrd.systemd.fido2.enable = lib.mkDefault false;
  boot.initrd.systemd.tpm2.enable = lib.mkDefault false;

  # Root is locked, so nobody could use the emergency shell, and the guest would wait at its console for ever. Without the
  # shell the guest boots even if a file system is missing, and somebody can log in by ssh and repair it.
  systemd.enableEmergencyMode = lib.mkDefault false;

  # The last one is /dev/console: the boot log and systemd's login prompt come out on the serial port.
  boot.kernelParams = [
    "console=tty0"
    "console=${serial},115200n8"
    # Mount only the file systems in fstab. systemd's generator would put /boot behind an automount, which
    # dbus-broker's mount namespace triggers at every boot; dbus and logind then fail with it.
    "systemd.gpt_auto=0"
  ]
  # Without KVM on a busy host the kernel finds its timer too slow and panics ("IO-APIC + timer doesn't work"). Under KVM
  # it does not check by itself (arch/x86/kernel/kvm.c).
  ++ lib.optional pkgs.stdenv.hostPlatform.isx86_64 "no_timer_check";

  # The ESP, read-only. `nofail`: a running machine does not need it, so it must not keep the machine from booting.
  fileSystems."/boot" = {
    device = "/dev/disk/by-partlabel/nixvm-esp";
    fsType = "vfat";
    options = [
      "ro"
      "umask=0077"
      "nofail"
    ];
    noCheck = true;
  };
}
