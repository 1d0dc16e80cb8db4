# Why: with their default settings, some of NixOS's services write below /etc or to resolv.conf, and would fail here. This
# module gives them defaults that work. A definition overrides them, and is refused if a guest cannot carry it out.
{
  config,
  lib,
  options,
  ...
}:
let
  before = lib.mkOverride 1400; # stronger than the option's default, weaker than every definition
  has = path: lib.hasAttrByPath path options;
in
{
  # It creates a certificate there if there is none.
  services = lib.optionalAttrs (has [ "services" "xrdp" "sslKey" ]) {
    xrdp.sslKey = before "/var/lib/xrdp/key.pem";
    xrdp.sslCert = before "/var/lib/xrdp/cert.pem";
  }
  # It would make resolvconf write files to /etc and use it as the machine's resolver.
  // lib.optionalAttrs (has [ "services" "dnsmasq" "resolveLocalQueries" ]) {
    dnsmasq.resolveLocalQueries = before false;
  }
  // lib.optionalAttrs (has [ "services" "mattermost" "configDir" ]) {
    mattermost.configDir = before "/var/lib/mattermost/config";
  };

  # systemd creates these folders when the services start, and the services only read there.
  environment.etc = lib.mkMerge [
    (lib.mkIf (config.services.avahi.enable or false) { "avahi/services/.nixvm".text = ""; })
    (lib.mkIf (config.services ? netbird) (
      lib.mapAttrs' (_: client: lib.nameValuePair "${client.dir.baseName}/.nixvm" { text = ""; }) (
        config.services.netbird.clients or { }
      )
    ))
  ];

  # Desktops set it with mkDefault. systemd-networkd manages the machine's one card.
  networking = lib.optionalAttrs (has [ "networking" "networkmanager" "enable" ]) {
    networkmanager.enable = lib.mkOverride 900 false;
    networkmanager.dns = before "none";
  };
}
