# Why: the host must be able to ask the guest for its address, to freeze its file systems for a backup and to set
# its clock right after a pause.
#
# The agent itself is switched on in fixed.nix.
{ lib, ... }:
{
  services.timesyncd.enable = lib.mkDefault true;
  time.timeZone = lib.mkDefault "UTC";
}
