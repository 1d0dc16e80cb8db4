# Why: every path in a profile is stored, copied into each pool and mapped at each boot. Off goes what a virtual
# machine without a screen has no use for; a profile that wants one of these back sets it.
{ lib, modulesPath, ... }:
{
  imports = [ "${modulesPath}/profiles/minimal.nix" ];

  boot.bcache.enable = lib.mkDefault false;
  boot.swraid.enable = lib.mkDefault false;
  boot.kexec.enable = lib.mkDefault false;
  boot.enableContainers = lib.mkDefault false;
  services.lvm.enable = lib.mkDefault false;
  fonts.fontconfig.enable = lib.mkDefault false;
  programs.ssh.setXAuthLocation = lib.mkDefault false;
}
