# Settings that NixOS would carry out and an immutable guest cannot. Each must be refused, by name and with an alternative:
# `says` holds words that the messages must contain.
{ lib }:
let
  refuse = says: module: { inherit module says; };
  inherit (lib) mkForce;
in
{
  activationScript = refuse [ "system.activationScripts.mine" "systemd.services" ] {
    system.activationScripts.mine = "mkdir -p /srv/app";
  };
  activationScriptWithDeps = refuse [ "system.activationScripts.secrets" ] {
    system.activationScripts.secrets = {
      deps = [ "etc" ];
      text = "install -m 600 /dev/null /run/secret";
    };
  };
  userActivationScript = refuse [ "system.userActivationScripts.mine" "systemd.user.services" ] {
    system.userActivationScripts.mine.text = "touch ~/.profile";
  };

  tmpfilesRule = refuse [ "d /srv/app 0755 root root -" ''nixvm.persist = [ "/srv" ]'' ] {
    systemd.tmpfiles.rules = [ "d /srv/app 0755 root root -" ];
  };
  tmpfilesLink = refuse [ "L+ /usr/local/bin/tool" ] {
    systemd.tmpfiles.rules = [ "L+ /usr/local/bin/tool - - - - /run/current-system/sw/bin/true" ];
  };
  tmpfilesSettings = refuse [ "systemd.tmpfiles.settings.mine" "/opt/app" ] {
    systemd.tmpfiles.settings.mine."/opt/app".d.mode = "0755";
  };
  tmpfilesEtc = refuse [ "f /etc/app/state" ''nixvm.persist = [ "/etc/app" ]'' ] {
    systemd.tmpfiles.rules = [ "f /etc/app/state 0600 root root - x" ];
  };
  tmpfilesOwner = refuse [ "d /srv 0750 admin admin" ] {
    systemd.tmpfiles.rules = [ "d /srv 0750 admin admin -" ];
  };

  home = refuse [ "users.users.git.home" "/srv/git" ''nixvm.persist = [ "/srv" ]'' ] {
    users.users.git = {
      isSystemUser = true;
      group = "git";
      home = "/srv/git";
      createHome = true;
    };
    users.groups.git = { };
  };
  homeOfANormalUser = refuse [ "users.users.alice.home" "/data/alice" ] {
    users.users.alice = {
      isNormalUser = true;
      home = "/data/alice";
    };
  };
  workingFolder = refuse [ "systemd.services.app" "WorkingDirectory" "/srv/app" ] {
    systemd.services.app.serviceConfig = {
      ExecStart = "/run/current-system/sw/bin/true";
      WorkingDirectory = "/srv/app";
    };
  };
  readWritePaths = refuse [ "ReadWritePaths" "/opt/app" ] {
    systemd.services.app.serviceConfig = {
      ExecStart = "/run/current-system/sw/bin/true";
      ReadWritePaths = [ "/var/lib/app /opt/app" ];
    };
  };
  configurationFolder = refuse [ "ConfigurationDirectory" "/etc/app" ''nixvm.persist = [ "/etc/app" ]'' ] {
    systemd.services.app.serviceConfig = {
      ExecStart = "/run/current-system/sw/bin/true";
      ConfigurationDirectory = "app";
    };
  };
  swapFile = refuse [ "swapDevices" "/swapfile" "/var/swapfile" ] {
    swapDevices = [
      {
        device = "/swapfile";
        size = 1024;
      }
    ];
  };

  etcOwner = refuse [ ''environment.etc."app/secret"'' "postgres" ] {
    environment.etc."app/secret" = {
      text = "x";
      mode = "0400";
      user = "postgres";
    };
  };
  etcGroup = refuse [ ''environment.etc."app/conf"'' "admin" ] {
    environment.etc."app/conf" = {
      text = "x";
      mode = "0644";
      group = "admin";
    };
  };

  mountUnit = refuse [ "systemd.mounts" "/data" ''fileSystems."/data"'' ] {
    systemd.mounts = [
      {
        what = "tmpfs";
        where = "/data";
        type = "tmpfs";
      }
    ];
  };
  automountUnit = refuse [ "systemd.automounts" "/mnt/files" ] {
    systemd.automounts = [ { where = "/mnt/files"; } ];
  };
  fileSystemBelowEtc = refuse [ ''fileSystems."/etc/app"'' ''nixvm.persist = [ "/etc/app" ]'' ] {
    fileSystems."/etc/app" = {
      device = "/var/lib/app-etc";
      fsType = "none";
      options = [ "bind" ];
    };
  };

  nix = refuse [ "nix.enable is true" "nixvm upgrade" ] { nix.enable = mkForce true; };
  nixWithoutForce = refuse [ "nix.enable is true" ] { nix.enable = true; };
  mutableUsers = refuse [ "users.mutableUsers is true" "nixvm passwd" ] { users.mutableUsers = mkForce true; };
  mutableEtc = refuse [ "system.etc.overlay.mutable is true" ] { system.etc.overlay.mutable = mkForce true; };
  bootLoader = refuse [ "boot.loader.systemd-boot.enable is true" ] { boot.loader.systemd-boot.enable = true; };
  agent = refuse [ "services.qemuGuest.enable is false" ] { services.qemuGuest.enable = false; };
  garbage = refuse [ "nix.gc.automatic" ] { nix.gc.automatic = true; };
  autoUpgrade = refuse [ "system.autoUpgrade.enable" "nixvm upgrade" ] { system.autoUpgrade.enable = true; };
  containers = refuse [ "containers.web" "oci-containers" ] { containers.web.config = { }; };
  homeManager = refuse [ "home-manager" "admin" ] {
    options.home-manager.users = lib.mkOption {
      type = lib.types.attrsOf lib.types.raw;
      default = { };
    };
    config.home-manager.users.admin = { };
  };

  rootlessDocker = refuse [ "virtualisation.docker.rootless.enable" "environment.etc.subuid" ] {
    virtualisation.docker.rootless.enable = true;
  };
  rootlessPodman = refuse [ "containers.{web}.podman.user" "environment.etc.subuid" ] {
    virtualisation.oci-containers.backend = "podman";
    users.users.user.linger = true;
    virtualisation.oci-containers.containers.web = {
      image = "nginx";
      podman.user = "user";
    };
  };
  subordinateIds = refuse [ "users.users.{user}" "environment.etc.subuid" ] {
    users.users.user.subUidRanges = [
      {
        startUid = 100000;
        count = 65536;
      }
    ];
  };

  nameservers = refuse [ "networking.nameservers" "9.9.9.9" "machines/NAME/resolv.conf" ] {
    networking.nameservers = [ "9.9.9.9" ];
  };
  search = refuse [ "networking.search" "example.org" ] { networking.search = [ "example.org" ]; };
  resolved = refuse [ "services.resolved.enable is true" "machines/NAME/resolv.conf" ] { services.resolved.enable = true; };
  resolvconf = refuse [ "networking.resolvconf.enable is true" ] { networking.resolvconf.enable = true; };
  networkManager = refuse [ "networking.networkmanager.dns" ] {
    networking.networkmanager.enable = true;
    networking.networkmanager.dns = "default";
  };
  dhcpcd = refuse [ "networking.useNetworkd is false" ] { networking.useNetworkd = mkForce false; };
  wgQuickDns = refuse [ "networking.wg-quick.interfaces.{wg0}.dns" ] {
    networking.wg-quick.interfaces.wg0 = {
      address = [ "10.0.0.1/24" ];
      privateKeyFile = "/var/lib/key";
      dns = [ "10.0.0.2" ];
    };
  };
  openvpnResolv = refuse [ "services.openvpn.servers.{office}.updateResolvConf" ] {
    services.openvpn.servers.office = {
      config = "";
      updateResolvConf = true;
    };
  };
  dnsmasqLocal = refuse [ "services.dnsmasq.resolveLocalQueries" ] {
    services.dnsmasq.enable = true;
    services.dnsmasq.resolveLocalQueries = true;
  };

  k3s = refuse [ "services.k3s.enable" ''nixvm.persist = [ "/etc/rancher" ]'' ] { services.k3s.enable = true; };
  kubernetes = refuse [ "/opt/cni/bin" ''nixvm.persist = [ "/opt" ]'' ] {
    services.kubernetes = {
      roles = [ "node" ];
      masterAddress = "k8s.example.org";
    };
  };
  dockerFolder = refuse [ "virtualisation.docker.enable" "/srv/docker" ''nixvm.persist = [ "/srv" ]'' ] {
    virtualisation.docker.enable = true;
    virtualisation.docker.daemon.settings.data-root = "/srv/docker";
  };
  postgresqlFolder = refuse [ "/srv/pg" "users.users.postgres.home" "systemd.services.postgresql" ] {
    services.postgresql.enable = true;
    services.postgresql.dataDir = "/srv/pg";
  };
  pihole = refuse [ "services.pihole-ftl.enable" "oci-containers" ] { services.pihole-ftl.enable = true; };
  xl2tpd = refuse [ "services.xl2tpd.enable" "/etc/xl2tpd" ] { services.xl2tpd.enable = true; };
  bind = refuse [ "ConfigurationDirectory" "/etc/bind" ] { services.bind.enable = true; };

  persistOfTheSystem = refuse [ "nixvm.persist names /etc," ] { nixvm.persist = [ "/etc" ]; };
  persistOfTheStore = refuse [ "nixvm.persist names /nix/store" ] { nixvm.persist = [ "/nix/store" ]; };
  persistOfVar = refuse [ "nixvm.persist names /var/lib/app" ] { nixvm.persist = [ "/var/lib/app" ]; };
  persistOverEntries = refuse [ "nixvm.persist names /etc/app" "/etc/app/app.conf" ] {
    nixvm.persist = [ "/etc/app" ];
    environment.etc."app/app.conf".text = "x";
  };
}
