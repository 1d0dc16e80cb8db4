# sudo, and programs that run with another account's rights. The store has no setuid bits, so copies are made at boot.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  sudo = config.security.sudo;

  wrapperModule =
    { name, ... }:
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether the wrapper is there.";
        };
        source = mkOption {
          type = types.path;
          description = "The program.";
        };
        program = mkOption {
          type = types.str;
          default = name;
          description = "The wrapper's name.";
        };
        owner = mkOption {
          type = types.str;
          default = "root";
          description = "The account whose rights it has with `setuid`.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "The group whose rights it has with `setgid`.";
        };
        setuid = mkOption {
          type = types.bool;
          default = false;
          description = "Whether it runs as its owner.";
        };
        setgid = mkOption {
          type = types.bool;
          default = false;
          description = "Whether it runs as its group.";
        };
        permissions = mkOption {
          type = types.str;
          default = "u+rx,g+x,o+x";
          description = "Its mode, as chmod(1) takes it.";
        };
      };
    };
  wrappers = lib.filter (wrapper: wrapper.enable) (lib.attrValues config.security.wrappers);
  # As install(1) takes them: one process for all programs that have the same.
  isRenamed = wrapper: baseNameOf (toString wrapper.source) != wrapper.program;
  attributesOf =
    wrapper:
    let
      bits = lib.optional wrapper.setuid "u+s" ++ lib.optional wrapper.setgid "g+s";
    in
    lib.escapeShellArgs [
      "--mode=${lib.concatStringsSep "," ([ wrapper.permissions ] ++ bits)}"
      "--owner=${wrapper.owner}"
      "--group=${wrapper.group}"
    ];
  installLine =
    same:
    let
      first = lib.head same;
      target = "/run/wrappers/bin/" + lib.optionalString (isRenamed first) first.program;
    in
    "install ${attributesOf first} ${lib.escapeShellArgs (map (wrapper: "${wrapper.source}") same ++ [ target ])}";
  installed = lib.groupBy (wrapper: if isRenamed wrapper then wrapper.program else attributesOf wrapper) wrappers;
  fromDebian = name: {
    source = "/usr/bin/${name}";
    setuid = true;
  };

  ruleModule = {
    options = {
      users = mkOption {
        type = types.listOf (types.either types.str types.int);
        default = [ ];
        description = "Accounts.";
      };
      groups = mkOption {
        type = types.listOf (types.either types.str types.int);
        default = [ ];
        description = "Groups.";
      };
      host = mkOption {
        type = types.str;
        default = "ALL";
        description = "Hosts.";
      };
      runAs = mkOption {
        type = types.str;
        default = "ALL:ALL";
        description = "Whose rights they may have.";
      };
      commands = mkOption {
        type = types.listOf (
          types.coercedTo types.str (command: { inherit command; }) (
            types.submodule {
              options = {
                command = mkOption {
                  type = types.str;
                  description = "A command, or ALL.";
                };
                options = mkOption {
                  type = types.listOf types.str;
                  default = [ ];
                  description = "Tags such as NOPASSWD.";
                };
              };
            }
          )
        );
        default = [ ];
        description = "What they may run.";
      };
    };
  };
  ruleLine =
    rule: who:
    "${who} ${rule.host}=(${rule.runAs}) ${
      lib.concatMapStringsSep ", " (
        command: "${lib.concatMapStrings (tag: "${tag}: ") command.options}${command.command}"
      ) rule.commands
    }";
  ruleLines =
    rule: map (ruleLine rule) (map toString rule.users ++ map (group: "%${toString group}") rule.groups);
in
{
  options.security = {
    wrappers = mkOption {
      type = types.attrsOf (types.submodule wrapperModule);
      default = { };
      description = "Programs in /run/wrappers/bin.";
    };
    sudo = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether there is sudo.";
      };
      wheelNeedsPassword = mkOption {
        type = types.bool;
        default = true;
        description = "Whether members of wheel give a password.";
      };
      execWheelOnly = mkOption {
        type = types.bool;
        default = false;
        description = "Whether only members of wheel may run sudo at all.";
      };
      extraRules = mkOption {
        type = types.listOf (types.submodule ruleModule);
        default = [ ];
        description = "Further rules.";
      };
      extraConfig = mkOption {
        type = types.lines;
        default = "";
        description = "Further lines of sudoers(5).";
      };
    };
  };

  config = {
    security.wrappers = {
      mount = fromDebian "mount";
      umount = fromDebian "umount";
      su = fromDebian "su";
      newgrp = fromDebian "newgrp";
    }
    // lib.optionalAttrs sudo.enable {
      sudo =
        fromDebian "sudo"
        // lib.optionalAttrs sudo.execWheelOnly {
          group = "wheel";
          permissions = "u+rx,g+x";
        };
    };

    environment.etc."sudoers" = {
      enable = sudo.enable;
      mode = "0440";
      text = ''
        Defaults env_reset
        Defaults secure_path="/run/wrappers/bin:/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        root ALL=(ALL:ALL) SETENV: ALL
        %wheel ALL=(ALL:ALL) ${lib.optionalString (!sudo.wheelNeedsPassword) "NOPASSWD: "}SETENV: ALL
        ${lib.concatLines (lib.concatMap ruleLines sudo.extraRules)}
        ${sudo.extraConfig}
      '';
    };

    # A separate tmpfs, because systemd mounts /run with nosuid.
    systemd.mounts = [
      {
        description = "Programs with other accounts' rights";
        what = "tmpfs";
        where = "/run/wrappers";
        type = "tmpfs";
        options = "nodev,mode=755,size=50%";
        requiredBy = [ "suid-sgid-wrappers.service" ];
        before = [ "suid-sgid-wrappers.service" ];
        unitConfig.DefaultDependencies = false;
      }
    ];
    systemd.services.suid-sgid-wrappers = {
      description = "Programs with other accounts' rights";
      wantedBy = [ "sysinit.target" ];
      before = [
        "sysinit.target"
        "shutdown.target"
      ];
      after = [ "userborn.service" ];
      conflicts = [ "shutdown.target" ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
      script = ''
        mkdir -p /run/wrappers/bin
        ${lib.concatLines (map installLine (lib.attrValues installed))}
      '';
    };
  };
}
