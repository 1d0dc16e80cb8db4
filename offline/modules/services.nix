# Services of Debian's packages that nixvm's modules switch on.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services;
  switch =
    default: description:
    mkOption {
      type = types.bool;
      inherit default description;
    };
  lines = mkOption {
    type = types.lines;
    default = "";
    description = "Further lines of its configuration.";
  };
in
{
  options.services = {
    qemuGuest.enable = switch false "Whether QEMU's guest agent runs.";
    timesyncd = {
      enable = switch false "Whether systemd-timesyncd sets the clock.";
      servers = mkOption {
        type = types.nullOr (types.listOf types.str);
        default = null;
        description = "Time servers.";
      };
    };
    journald = {
      storage = mkOption {
        type = types.enum [
          "persistent"
          "volatile"
          "auto"
          "none"
        ];
        default = "persistent";
        description = "Where the journal is kept.";
      };
      extraConfig = lines;
    };
    logind.settings.Login = mkOption {
      type = types.attrs;
      default = { };
      description = "Settings of logind.conf(5).";
    };
    udev.extraRules = lines;
    fstrim.enable = switch false "Whether free blocks are given back every week.";
    getty.autologinUser = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Not carried out: every login asks.";
    };
  };

  config = lib.mkMerge [
    {
      system.ignored = lib.optional (cfg.getty.autologinUser != null) "services.getty.autologinUser";
      environment.etc = {
        "systemd/journald.conf".text = ''
          [Journal]
          Storage=${cfg.journald.storage}
          ${cfg.journald.extraConfig}
        '';
        "systemd/logind.conf".text = "[Login]\n" + lib.generators.toKeyValue { } cfg.logind.settings.Login;
        "udev/rules.d/99-local.rules".text = cfg.udev.extraRules;
        "issue".text = "Debian ${lib.trivial.release}, as an image of nixvm: \\n \\l\n\n";
      };
      # A user's service manager keeps running: without KVM starting it takes seconds, and every `ssh machine command`
      # would start it again.
      services.logind.settings.Login.UserStopDelaySec = lib.mkDefault "infinity";
      # As in NixOS, the members of wheel read the journal.
      systemd.tmpfiles.rules = lib.mkIf (cfg.journald.storage == "persistent") [
        "a+ /var/log/journal - - - - d:group::r-x,d:group:wheel:r-x,group::r-x,group:wheel:r-x"
        "a+ /var/log/journal/%m - - - - d:group:wheel:r-x,group:wheel:r-x"
        "a+ /var/log/journal/%m/system.journal - - - - group:wheel:r--"
      ];
      # Debian's device rules start it as soon as the port to the host exists.
      systemd.maskedUnits = lib.optional (!cfg.qemuGuest.enable) "qemu-guest-agent.service";
    }
    (lib.mkIf cfg.timesyncd.enable {
      systemd.enabledUnits."sysinit.target" = [ "systemd-timesyncd.service" ];
      environment.etc."systemd/timesyncd.conf".text =
        let
          servers = if cfg.timesyncd.servers == null then config.networking.timeServers else cfg.timesyncd.servers;
        in
        "[Time]\n" + lib.optionalString (servers != [ ]) "NTP=${lib.concatStringsSep " " servers}\n";
    })
    (lib.mkIf cfg.fstrim.enable {
      systemd.enabledUnits."timers.target" = [ "fstrim.timer" ];
    })
  ];
}
