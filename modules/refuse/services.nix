# NixOS's services that write below /etc, or to a folder of the user's choice, by a script of their own, which nothing but
# reading them tells. Found in nixpkgs 26.11pre by a search for writes to /etc in nixos/modules; docs/immutable.md has the
# same list.
{
  config,
  lib,
  options,
  ...
}:
let
  paths = import ../paths.nix { inherit config lib; };

  # `persist` makes it work; where the folder also holds entries of environment.etc, which a mount would hide, or is /etc
  # itself, there is another way.
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
      instead = "Host name, keys and network are the machine's files: see docs/machine-files.md.";
    };
    "services.datadog-agent.enable" = {
      folder = "/etc/datadog-agent";
      instead = "Run the agent in a container: virtualisation.oci-containers.";
    };
    "services.consul.enable" = {
      folder = "/etc";
      when = lib.any (name: name != null) (lib.attrValues config.services.consul.interface);
      instead = "Take services.consul.interface out and name the addresses in services.consul.extraConfig.";
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
      instead = "Attach the disk on the host, where the machine's domain can be given it.";
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
      instead = "Take services.schleuder.extraSettingsFile out and use settings.";
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
        nixvm: services.tinc.networks has ${lib.concatStringsSep ", " tinc}, but tinc makes its folder and keys below /etc/tinc, which is
        part of the immutable /etc. Use networking.wireguard or services.tailscale.'';
    };
}
