# The ssh server, by Debian's OpenSSH.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.openssh;

  flag =
    default: description:
    mkOption {
      type = types.bool;
      inherit default description;
    };
  show =
    value:
    if builtins.isBool value then
      lib.boolToYesNo value
    else if builtins.isList value then
      lib.concatMapStringsSep "," toString value
    else
      toString value;
  # sshd_config(5) separates names of accounts by spaces, and algorithms by commas.
  bySpace = [
    "AcceptEnv"
    "AllowGroups"
    "AllowUsers"
    "AuthenticationMethods"
    "DenyGroups"
    "DenyUsers"
  ];
  line =
    name: value:
    if builtins.isList value && lib.elem name bySpace then "${name} ${lib.concatStringsSep " " value}" else "${name} ${show value}";

  withKeys = lib.filterAttrs (
    _: user:
    let
      keys = user.openssh.authorizedKeys;
    in
    user.enable && (keys.keys != [ ] || keys.keyFiles != [ ])
  ) config.users.users;
in
{
  options.services.openssh = {
    enable = flag false "Whether the ssh server runs.";
    openFirewall = flag true "Whether its ports are open.";
    startWhenNeeded = flag false "Not carried out: the server always runs.";
    authorizedKeysInHomedir = flag true "Whether keys in a home folder count.";
    generateHostKeys = flag true "Whether missing host keys are made at boot.";
    allowSFTP = flag true "Whether sftp works.";
    ports = mkOption {
      type = types.listOf types.port;
      default = [ 22 ];
      description = "Ports to listen on.";
    };
    listenAddresses = mkOption {
      type = types.listOf (
        types.submodule {
          options = {
            addr = mkOption {
              type = types.str;
              description = "Address.";
            };
            port = mkOption {
              type = types.nullOr types.port;
              default = null;
              description = "Port.";
            };
          };
        }
      );
      default = [ ];
      description = "Addresses to listen on; without any, all.";
    };
    hostKeys = mkOption {
      type = types.listOf types.attrs;
      default = [
        {
          type = "ed25519";
          path = "/var/lib/ssh/ssh_host_ed25519_key";
        }
      ];
      description = "Host keys: type and path.";
    };
    authorizedKeysFiles = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Files of keys that may log in.";
    };
    banner = mkOption {
      type = types.nullOr types.lines;
      default = null;
      description = "Text to show before the login.";
    };
    settings = mkOption {
      type = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.str
            (types.listOf types.str)
          ]
        )
      );
      default = { };
      description = "Settings of sshd_config(5).";
    };
    extraConfig = mkOption {
      type = types.lines;
      default = "";
      description = "Further lines of sshd_config(5).";
    };
  };

  config = lib.mkIf cfg.enable {
    system.ignored = lib.optional cfg.startWhenNeeded "services.openssh.startWhenNeeded";
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall cfg.ports;

    services.openssh.authorizedKeysFiles =
      lib.optional cfg.authorizedKeysInHomedir "%h/.ssh/authorized_keys" ++ [ "/etc/ssh/authorized_keys.d/%u" ];
    services.openssh.settings = lib.mapAttrs (_: lib.mkOptionDefault) {
      UsePAM = true;
      PrintMotd = false;
      X11Forwarding = false;
      UseDns = false;
      KbdInteractiveAuthentication = true;
      PasswordAuthentication = true;
      PermitRootLogin = "prohibit-password";
    };

    environment.etc = {
      "ssh/sshd_config".text = lib.concatLines (
        # The first value counts in sshd_config(5).
        map (port: "Port ${toString port}") cfg.ports
        ++ map (
          address: "ListenAddress ${address.addr}${lib.optionalString (address.port != null) ":${toString address.port}"}"
        ) cfg.listenAddresses
        ++ map (key: "HostKey ${key.path}") cfg.hostKeys
        ++ [ "AuthorizedKeysFile ${lib.concatStringsSep " " cfg.authorizedKeysFiles}" ]
        ++ lib.optional cfg.allowSFTP "Subsystem sftp internal-sftp"
        ++ lib.optional (cfg.banner != null) "Banner /etc/ssh/banner"
        ++ lib.mapAttrsToList line (lib.filterAttrs (_: value: value != null) cfg.settings)
        ++ [ cfg.extraConfig ]
      );
      "ssh/banner" = {
        enable = cfg.banner != null;
        text = cfg.banner;
      };
    }
    // lib.mapAttrs' (
      name: user:
      lib.nameValuePair "ssh/authorized_keys.d/${name}" {
        mode = "0444";
        text = lib.concatLines (
          user.openssh.authorizedKeys.keys ++ map lib.fileContents user.openssh.authorizedKeys.keyFiles
        );
      }
    ) withKeys;

    systemd.services.sshd-keygen = lib.mkIf cfg.generateHostKeys {
      description = "Host keys of the ssh server";
      wantedBy = [ "sshd.service" ];
      before = [ "sshd.service" ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = lib.concatMapStrings (key: ''
        if ! [ -s ${lib.escapeShellArg key.path} ]; then
          mkdir -p -m 0755 ${lib.escapeShellArg (dirOf key.path)}
          ssh-keygen -q -t ${lib.escapeShellArg key.type} -N "" -f ${lib.escapeShellArg key.path}
        fi
      '') cfg.hostKeys;
    };

    systemd.services.sshd = {
      description = "ssh server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      serviceConfig = {
        Type = "notify";
        ExecStart = "/usr/sbin/sshd -D -f /etc/ssh/sshd_config";
        ExecReload = "/bin/kill -HUP $MAINPID";
        # Sessions outlive a restart of the server.
        KillMode = "process";
        Restart = "always";
        RestartSec = "5s";
        RuntimeDirectory = "sshd";
        RuntimeDirectoryMode = "0755";
      };
    };
  };
}
