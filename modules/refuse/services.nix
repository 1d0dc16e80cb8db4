# NixOS's services whose own scripts write below /etc, or to a folder of the user's choice. Only reading the scripts shows
# that. The list comes from a search for writes to /etc in nixos/modules of nixpkgs 26.11pre; docs/immutable.md repeats it.
{
  config,
  lib,
  options,
  ...
}:
let
  paths = import ../paths.nix { inherit config lib; };

  # nixvm.persist makes a service work, unless the folder is /etc itself or holds entries of environment.etc, which a mount
  # would hide. These services have an `instead`.
  writing = {
    "security.duosec.pam.enable".folder = "/etc/duo";
    "security.duosec.ssh.enable".folder = "/etc/duo";
    "security.ipa.enable" = {
      folder = "/etc";
      instead = "Use security.krb5 and services.sssd, with the keytab below /var/lib.";
    };
    "services.cjdns.enable" = {
      folder = "/etc";
      when = config.services.cjdns.confFile == null;
      instead = "Set services.cjdns.confFile to a file below /var/lib that holds the keys.";
    };
    "services.cloud-init.enable" = {
      folder = "/etc";
      instead = "Set host name, keys and network in the machine's files: see docs/machine-files.md.";
    };
    "services.datadog-agent.enable" = {
      folder = "/etc/datadog-agent";
      instead = "Run the agent in a container: virtualisation.oci-containers.";
    };
    "services.consul.enable" = {
      folder = "/etc";
      when = lib.any (name: name != null) (lib.attrValues config.services.consul.interface);
      instead = "Remove services.consul.interface and name the addresses in services.consul.extraConfig.";
    };
    "services.epgstation.enable".folder = "/etc/epgstation";
    "services.gns3-server.enable".folder = "/etc/gns3";
    "services.k3s.enable".folder = "/etc/rancher";
    "services.mailman.enable" = {
      folder = "/etc";
      instead = "Run mailman in a container: virtualisation.oci-containers.";
    };
    "services.munin-node.enable".folder = "/etc/munin";
    "services.openiscsi.enable" = {
      folder = "/etc/iscsi";
      instead = "Attach the disk on the host, and add it to the machine's domain there.";
    };
    "services.pihole-ftl.enable" = {
      folder = "/etc/pihole";
      instead = "Use services.adguardhome or services.blocky, or run Pi-hole in a container: virtualisation.oci-containers.";
    };
    "services.postgresqlBackup.enable".folder = config.services.postgresqlBackup.location;
    "services.pptpd.enable".folder = "/etc/ppp-pptpd";
    "services.rke2.enable".folder = "/etc/rancher";
    "services.schleuder.enable" = {
      folder = "/etc/schleuder";
      when = config.services.schleuder.extraSettingsFile != null;
      instead = "Remove services.schleuder.extraSettingsFile and use settings.";
    };
    "services.sogo.enable" = {
      folder = "/etc/sogo";
      instead = "Run SOGo in a container: virtualisation.oci-containers.";
    };
    "services.twingate.enable".folder = "/etc/twingate";
    "services.xl2tpd.enable".folder = "/etc/xl2tpd";
    "virtualisation.docker.enable".folder =
      config.virtualisation.docker.daemon.settings.data-root or "/var/lib/docker";
  };

  isOn =
    name:
    let
      path = lib.splitString "." name;
    in
    lib.hasAttrByPath path options && lib.getAttrFromPath path config;
  lost = lib.filterAttrs (
    name: entry: isOn name && entry.when or true && !paths.isWritable (paths.normalise entry.folder)
  ) writing;

  tinc = lib.attrNames (config.services.tinc.networks or { });
in
{
  assertions =
    lib.mapAttrsToList (name: entry: {
      assertion = false;
      message =
        ''
          nixvm: ${name} is true, but the service writes to ${entry.folder}, which is on the read-only `/`.
        ''
        + entry.instead or "To keep it on the data disk: ${paths.wayOut (paths.normalise entry.folder)}";
    }) lost
    ++ lib.optional (tinc != [ ]) {
      assertion = false;
      message = ''
        nixvm: services.tinc.networks has ${lib.concatStringsSep ", " tinc}, but tinc creates its folder and keys below /etc/tinc, which is
        part of the immutable /etc. Use networking.wireguard or services.tailscale.'';
    };
}
