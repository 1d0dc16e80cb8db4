# resolv.conf is one of the machine's files (machines/NAME/resolv.conf), built into the image. Other settings that would
# write it have no effect.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (config) networking services;
  has = path: lib.hasAttrByPath path options;
  names = lib.concatStringsSep " ";

  isLocal = address: lib.hasPrefix "127." address || address == "::1";
  nameservers = networking.nameservers or [ ];
  remote = lib.filter (address: !isLocal address) nameservers;
  # A local resolver that the machine's file does not name. A profile may have one all the same.
  unused = lib.filter (address: isLocal address && !lib.hasInfix address config.nixvm.resolvConf) nameservers;

  file = lines: "write machines/NAME/resolv.conf: ${lines}";
  openvpn = lib.attrNames (
    lib.filterAttrs (_: server: server.updateResolvConf or false) (services.openvpn.servers or { })
  );
  wgQuick = lib.attrNames (
    lib.filterAttrs (_: interface: interface.dns or [ ] != [ ]) (networking.wg-quick.interfaces or { })
  );
in
{
  assertions = [
    {
      assertion = remote == [ ];
      message = ''
        nixvm: networking.nameservers is [ ${names remote} ], but nothing writes it to resolv.conf, which is the machine's own
        file. Instead, ${file "a line `nameserver ADDRESS` for each."}'';
    }
    {
      assertion = networking.search or [ ] == [ ];
      message = ''
        nixvm: networking.search is [ ${names (networking.search or [ ])} ], but nothing writes it to resolv.conf, which is the
        machine's own file. Instead, ${file "a line `search DOMAIN...`."}'';
    }
    {
      assertion = openvpn == [ ];
      message = ''
        nixvm: services.openvpn.servers.{${names openvpn}}.updateResolvConf is true, but resolv.conf is the machine's own file
        and cannot be changed while it runs. Instead, ${file "the servers to ask through the tunnel."}'';
    }
    {
      assertion = wgQuick == [ ];
      message = ''
        nixvm: networking.wg-quick.interfaces.{${names wgQuick}}.dns is set, but resolv.conf is the machine's own file and cannot
        be changed while it runs. Instead, ${file "the servers to ask through the tunnel."}'';
    }
  ]
  ++ lib.optional (has [ "networking" "networkmanager" "dns" ]) {
    assertion = networking.networkmanager.enable -> networking.networkmanager.dns == "none";
    message = ''
      nixvm: networking.networkmanager.dns is "${networking.networkmanager.dns}", so NetworkManager would write resolv.conf, which
      is the machine's own file. Remove the definition, and ${file "the servers to ask."}'';
  }
  ++ lib.optional (has [ "services" "dnsmasq" "resolveLocalQueries" ]) {
    assertion = services.dnsmasq.enable -> !services.dnsmasq.resolveLocalQueries;
    message = ''
      nixvm: services.dnsmasq.resolveLocalQueries is true, so dnsmasq would write files to /etc and fail. Remove the
      definition, and ${file "`nameserver 127.0.0.1`, with other servers in services.dnsmasq.settings.server."}'';
  }
  ++ lib.optional (has [ "services" "connman" "enable" ]) {
    assertion = !services.connman.enable;
    message = ''
      nixvm: services.connman.enable is true, but systemd-networkd sets up the machine's card, and resolv.conf is the
      machine's own file. Use systemd.network, and ${file "the servers to ask."}'';
  };

  warnings = lib.optional (unused != [ ] && config.nixvm.machine != null) ''
    nixvm: this machine runs a resolver on ${names unused} and does not use it, because resolv.conf is the machine's own file.
    To use it, ${file "`nameserver ${lib.head unused}`."}'';
}
