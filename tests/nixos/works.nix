# Services and settings that people run on servers. None of them may be refused, and each must evaluate to a system.
{ lib }:
let
  secret = "/var/lib/secrets/one";
in
{
  nothing = { };

  # web
  nginx = {
    services.nginx.enable = true;
    services.nginx.virtualHosts."example.org" = {
      enableACME = true;
      forceSSL = true;
      root = "/var/www";
    };
    security.acme = {
      acceptTerms = true;
      defaults.email = "me@example.org";
    };
  };
  caddy.services.caddy = {
    enable = true;
    virtualHosts."example.org".extraConfig = "respond hello";
  };
  apache.services.httpd = {
    enable = true;
    adminAddr = "me@example.org";
  };
  haproxy.services.haproxy = {
    enable = true;
    config = "defaults\n  mode http\n";
  };
  traefik.services.traefik.enable = true;
  php.services.phpfpm.pools.web = {
    user = "nginx";
    settings = {
      "pm" = "static";
      "pm.max_children" = 4;
    };
  };

  # databases
  postgresql.services.postgresql = {
    enable = true;
    ensureDatabases = [ "app" ];
  };
  postgresqlBackup.services = {
    postgresql.enable = true;
    postgresqlBackup.enable = true;
  };
  mysql =
    { pkgs, ... }:
    {
      services.mysql = {
        enable = true;
        package = pkgs.mariadb;
      };
    };
  redis.services.redis.servers.app.enable = true;
  memcached.services.memcached.enable = true;
  influxdb.services.influxdb2.enable = true;

  # files and backups
  samba.services.samba = {
    enable = true;
    settings.share.path = "/var/share";
  };
  nfs.services.nfs.server = {
    enable = true;
    exports = "/var/export *(ro)";
  };
  nfsClient.fileSystems."/mnt/files" = {
    device = "files.example.org:/export";
    fsType = "nfs";
    options = [
      "noauto"
      "x-systemd.automount"
    ];
  };
  restic.services.restic.backups.all = {
    repository = "sftp:backup@example.org:/backup";
    passwordFile = secret;
    paths = [ "/var/lib" ];
  };
  borg.services.borgbackup.jobs.all = {
    paths = [ "/var/lib" ];
    repo = "backup@example.org:/backup";
    encryption.mode = "none";
  };
  syncthing.services.syncthing.enable = true;
  nextcloud =
    { pkgs, ... }:
    {
      services.nextcloud = {
        enable = true;
        package = lib.head (lib.filter (p: p != null) [ (pkgs.nextcloud33 or null) (pkgs.nextcloud32 or null) ]);
        hostName = "cloud.example.org";
        config.adminpassFile = secret;
        config.dbtype = "sqlite";
      };
    };

  # code
  gitea.services.gitea.enable = true;
  forgejo.services.forgejo.enable = true;
  gitolite.services.gitolite = {
    enable = true;
    adminPubkey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq0G6BJb2VX1Wq3ChYwS3n3JmNG6v0Ue9cVq7b2h3kX test";
  };
  gitlab.services.gitlab = {
    enable = true;
    databasePasswordFile = secret;
    initialRootPasswordFile = secret;
    secrets = lib.genAttrs [
      "secretFile"
      "otpFile"
      "dbFile"
      "jwsFile"
      "activeRecordPrimaryKeyFile"
      "activeRecordDeterministicKeyFile"
      "activeRecordSaltFile"
    ] (_: secret);
  };

  # containers
  docker.virtualisation.docker.enable = true;
  podman.virtualisation.podman = {
    enable = true;
    dockerCompat = true;
  };
  ociContainers.virtualisation.oci-containers.containers.web.image = "docker.io/library/nginx";
  rootlessDockerWithRanges = {
    virtualisation.docker.rootless.enable = true;
    environment.etc.subuid.text = "admin:100000:65536\n";
    environment.etc.subgid.text = "admin:100000:65536\n";
  };
  k3s = {
    services.k3s.enable = true;
    nixvm.persist = [ "/etc/rancher" ];
  };

  # networks
  tailscale.services.tailscale.enable = true;
  wireguard.networking.wireguard.interfaces.wg0 = {
    ips = [ "10.0.0.1/24" ];
    privateKeyFile = secret;
    peers = [ ];
  };
  wgQuick.networking.wg-quick.interfaces.wg0 = {
    address = [ "10.0.0.1/24" ];
    privateKeyFile = secret;
  };
  openvpn.services.openvpn.servers.office.config = "config /var/lib/office.ovpn";
  headscale.services.headscale = {
    enable = true;
    settings.dns = {
      magic_dns = false;
      override_local_dns = false;
    };
  };
  avahi.services.avahi = {
    enable = true;
    publish.enable = true;
  };
  dnsmasq.services.dnsmasq.enable = true;
  unbound.services.unbound.enable = true;
  adguardhome.services.adguardhome.enable = true;
  chrony.services.chrony.enable = true;
  fail2ban.services.fail2ban.enable = true;
  nftables.networking.nftables.enable = true;
  staticAddress.systemd.network.networks."05-static" = {
    matchConfig.Driver = "virtio_net";
    address = [ "192.0.2.10/24" ];
    gateway = [ "192.0.2.1" ];
  };
  x11Forwarding.services.openssh.settings.X11Forwarding = true;

  # watching
  prometheus.services.prometheus = {
    enable = true;
    exporters.node.enable = true;
  };
  grafana.services.grafana = {
    enable = true;
    settings.security.secret_key = "$__file{${secret}}";
  };
  loki.services.loki = {
    enable = true;
    configuration.auth_enabled = false;
  };
  uptimeKuma.services.uptime-kuma.enable = true;
  netdata.services.netdata.enable = true;

  # homes
  homeAssistant.services.home-assistant = {
    enable = true;
    config.default_config = { };
  };
  mosquitto.services.mosquitto.enable = true;
  jellyfin.services.jellyfin.enable = true;
  vaultwarden.services.vaultwarden.enable = true;
  immich.services.immich.enable = true;
  paperless.services.paperless.enable = true;
  unifi.services.unifi.enable = true;
  minecraft.services.minecraft-server = {
    enable = true;
    eula = true;
  };
  cups.services.printing.enable = true;
  zigbee2mqtt.services.zigbee2mqtt.enable = true;

  # mail
  postfix.services.postfix.enable = true;
  dovecot.services.dovecot2 = {
    enable = true;
    settings = {
      dovecot_config_version = "2.4.0";
      dovecot_storage_version = "2.4.0";
    };
  };

  # desktops
  xrdp.services = {
    xrdp.enable = true;
    xserver.enable = true;
    xserver.desktopManager.xfce.enable = true;
  };
  gnome.services = {
    desktopManager.gnome.enable = true;
    displayManager.gdm.enable = true;
  };

  # the system itself
  cron.services.cron = {
    enable = true;
    systemCronJobs = [ "0 3 * * * admin true" ];
  };
  timer = {
    systemd.services.report.script = "date > /var/lib/report/last";
    systemd.services.report.serviceConfig = {
      StateDirectory = "report";
      WorkingDirectory = "/var/lib/report";
    };
    systemd.timers.report = {
      wantedBy = [ "timers.target" ];
      timerConfig.OnCalendar = "daily";
    };
  };
  users.users.users.alice = {
    isNormalUser = true;
    openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq0G6BJb2VX1Wq3ChYwS3n3JmNG6v0Ue9cVq7b2h3kX alice" ];
  };
  swap.swapDevices = [
    {
      device = "/var/swapfile";
      size = 1024;
    }
  ];
  zram.zramSwap.enable = true;
  files.environment.etc = {
    "app/app.conf".text = "a = 1\n";
    "app/hosts" = {
      text = "a\n";
      mode = "0640";
      uid = 1000;
      gid = 1000;
    };
  };
  tmpfiles.systemd.tmpfiles = {
    rules = [
      "d /var/lib/app 0750 admin admin -"
      "d /srv 0755 root root -"
      "L+ /run/app - - - - /var/lib/app"
    ];
    settings.app."/var/cache/app".d.mode = "0755";
  };
  ownFileSystem.fileSystems."/data" = {
    device = "/dev/disk/by-label/data";
    fsType = "ext4";
  };
  onOwnFileSystem = {
    fileSystems."/data".device = "/dev/disk/by-label/data";
    fileSystems."/data".fsType = "ext4";
    users.users.git = {
      isSystemUser = true;
      group = "git";
      home = "/data/git";
      createHome = true;
    };
    users.groups.git = { };
    systemd.tmpfiles.rules = [ "d /data/www 0755 admin admin -" ];
    systemd.services.app.serviceConfig = {
      ExecStart = "/run/current-system/sw/bin/true";
      WorkingDirectory = "/data/app";
    };
  };
  persist = {
    nixvm.persist = [
      "/srv"
      "/opt"
      "/etc/app"
      "/data"
    ];
    systemd.tmpfiles.rules = [
      "d /srv/git 0750 admin admin -"
      "d /etc/app/conf.d 0755 root root -"
    ];
    users.users.admin.createHome = true;
    swapDevices = [ { device = "/srv/swap"; } ];
  };
  emptiedActivationScript.system.activationScripts.mine = lib.mkForce "";
  conditionalActivationScript.system.activationScripts.mine = lib.mkIf false "echo";
  nixLd.programs.nix-ld.enable = true;
  apparmor.security.apparmor.enable = true;
  logrotate.services.logrotate.settings."/var/log/app.log" = { };
  locale = {
    i18n.defaultLocale = "de_DE.UTF-8";
    console.keyMap = "de";
    time.timeZone = "Europe/Berlin";
  };
}
