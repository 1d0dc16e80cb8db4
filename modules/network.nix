# Why: a machine has one network card, gets its address by its MAC, and opens the ports that its folder names.
{ config, lib, ... }:
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

  # resolv.conf is one of the machine's files, so nothing may generate it: see refuse/resolv.nix.
  environment.etc."resolv.conf" = {
    mode = "0444";
    text = config.nixvm.resolvConf;
  };

  networking.firewall.enable = lib.mkDefault true;
}
