# Why: a machine has one network card, gets its address by its MAC, and closes every port that nothing opens.
# machine.nix opens the ports that a machine's folder names.
{ lib, ... }:
{
  networking.useDHCP = lib.mkDefault false;
  systemd.network.networks."10-nixvm" = {
    # By driver: `Type=ether` would match docker's veth pairs too and run DHCP on them.
    matchConfig.Driver = "virtio_net";
    networkConfig.DHCP = "yes";
    dhcpV4Config = {
      ClientIdentifier = "mac"; # the default comes from the machine-id, and loses the lease when that changes
      UseDNS = false;
      UseHostname = false;
    };
    dhcpV6Config.UseDNS = false;
    ipv6AcceptRAConfig.UseDNS = false;
  };

  networking.firewall.enable = lib.mkDefault true;
}
