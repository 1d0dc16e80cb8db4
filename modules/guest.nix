# Why: the host must be able to ask the guest for its address, and to freeze its file systems for a backup.
#
# The agent itself is switched on in fixed.nix.
{ lib, ... }:
{
  services.timesyncd.enable = lib.mkDefault true;
  time.timeZone = lib.mkDefault "UTC";
}
