# Why: the host must be able to ask the guest for its address, to freeze its file systems for a backup and to set
# its clock right after a pause.
{ lib, ... }:
{
  services.qemuGuest.enable = true;
  services.timesyncd.enable = true;
  time.timeZone = lib.mkDefault "UTC";
}
