# Why: some of NixOS's services write below /etc, or to resolv.conf, unless they are told otherwise, and would fail here
# for a default. They get one that works; a definition goes before it, and is refused where it cannot be carried out.
{
  config,
  lib,
  options,
  ...
}:
let
  before = lib.mkOverride 1400; # in front of the option's default, behind every definition
  has = path: lib.hasAttrByPath path options;
in
{
  # It makes itself a certificate where there is none.
  services = lib.optionalAttrs (has [ "services" "xrdp" "sslKey" ]) {
    xrdp.sslKey = before "/var/lib/xrdp/key.pem";
    xrdp.sslCert = before "/var/lib/xrdp/cert.pem";
  }
  # It would have resolvconf write files to /etc and make it the machine's resolver.
  // lib.optionalAttrs (has [ "services" "dnsmasq" "resolveLocalQueries" ]) {
    dnsmasq.resolveLocalQueries = before false;
  }
  // lib.optionalAttrs (has [ "services" "mattermost" "configDir" ]) {
    mattermost.configDir = before "/var/lib/mattermost/config";
  };

  # systemd makes these folders when the services start, and they only read there.
  environment.etc = lib.mkMerge [
    (lib.mkIf (config.services.avahi.enable or false) { "avahi/services/.nixvm".text = ""; })
    (lib.mkIf (config.services ? netbird) (
      lib.mapAttrs' (_: client: lib.nameValuePair "${client.dir.baseName}/.nixvm" { text = ""; }) (
        config.services.netbird.clients or { }
      )
    ))
  ];

  # Desktops ask for it with mkDefault. The machine's one card is networkd's.
  networking = lib.optionalAttrs (has [ "networking" "networkmanager" "enable" ]) {
    networkmanager.enable = lib.mkOverride 900 false;
    networkmanager.dns = before "none";
  };
}
