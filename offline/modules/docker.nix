# Docker, by Debian's docker.io.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.virtualisation.docker;
in
{
  options.virtualisation.docker = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether Docker runs.";
    };
    enableOnBoot = mkOption {
      type = types.bool;
      default = true;
      description = "Whether it starts with the guest, and its containers with it, or with its first use.";
    };
    liveRestore = mkOption {
      type = types.bool;
      default = true;
      description = "Whether containers go on when the daemon is restarted.";
    };
    daemon.settings = mkOption {
      type = types.attrs;
      default = { };
      description = "Settings of daemon.json.";
    };
    autoPrune = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = "Whether what nothing uses is removed by a timer.";
      };
      dates = mkOption {
        type = types.str;
        default = "weekly";
        description = "When, as in systemd.time(7).";
      };
      flags = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Arguments of `docker system prune`.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [
      pkgs.docker
      pkgs.iptables
    ];
    users.groups.docker.gid = 131; # nixpkgs' number
    virtualisation.docker.daemon.settings.live-restore = lib.mkDefault cfg.liveRestore;
    environment.etc."docker/daemon.json".text = builtins.toJSON cfg.daemon.settings;
    boot.kernelModules = [
      "bridge"
      "br_netfilter"
      "veth"
    ];
    boot.kernel.sysctl = {
      "net.ipv4.conf.all.forwarding" = lib.mkDefault true;
      "net.ipv4.conf.default.forwarding" = lib.mkDefault true;
    };
    systemd.enabledUnits = {
      "sockets.target" = [ "docker.socket" ];
      "multi-user.target" = lib.optional cfg.enableOnBoot "docker.service";
    };
    systemd.services.docker-prune = lib.mkIf cfg.autoPrune.enable {
      description = "Remove what Docker no longer uses";
      serviceConfig = {
        Type = "oneshot";
        ExecStart = "/usr/bin/docker system prune -f ${lib.escapeShellArgs cfg.autoPrune.flags}";
      };
    };
    systemd.timers.docker-prune = lib.mkIf cfg.autoPrune.enable {
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.autoPrune.dates;
        Persistent = true;
      };
    };
  };
}
