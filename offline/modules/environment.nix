# Packages, and the environment of every login.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.environment;
  value = types.oneOf [
    types.str
    types.int
    types.path
    (types.listOf types.str)
  ];
  variables = cfg.variables // cfg.sessionVariables;
  locale = "C.UTF-8";
  show = v: lib.concatMapStringsSep ":" toString (lib.toList v);
  searchPath = lib.concatStringsSep ":" [
    "/run/wrappers/bin"
    "/run/current-system/sw/bin"
    "/usr/local/bin"
    "/usr/bin"
    "/bin"
    "/usr/sbin"
    "/sbin"
  ];
in
{
  options = {
    environment = {
      systemPackages = mkOption {
        type = types.listOf types.package;
        default = [ ];
        description = "Packages of the guest. A package that the base does not have is listed as not carried out.";
      };
      pathsToLink = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Accepted: everything a package holds is linked.";
      };
      variables = mkOption {
        type = types.attrsOf value;
        default = { };
        description = "Variables of every login.";
      };
      sessionVariables = mkOption {
        type = types.attrsOf value;
        default = { };
        description = "Variables of every session.";
      };
      shellAliases = mkOption {
        type = types.attrsOf (types.nullOr types.str);
        default = { };
        description = "Aliases of interactive shells.";
      };
      shellInit = mkOption {
        type = types.lines;
        default = "";
        description = "Shell code of every login.";
      };
      loginShellInit = mkOption {
        type = types.lines;
        default = "";
        description = "Shell code of every login.";
      };
      interactiveShellInit = mkOption {
        type = types.lines;
        default = "";
        description = "Shell code of interactive shells.";
      };
      shells = mkOption {
        type = types.listOf (types.either types.package types.path);
        default = [ ];
        description = "Shells beside bash and sh.";
      };
    };
    time.timeZone = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Name below /usr/share/zoneinfo; null is UTC.";
    };
    i18n.defaultLocale = mkOption {
      type = types.str;
      default = locale;
      description = "The base has no other locale than C.UTF-8; another is listed as not carried out.";
    };
    system.path = mkOption {
      type = types.package;
      internal = true;
      description = "Everything of `environment.systemPackages` in one folder.";
    };
    system.debianPackages = mkOption {
      type = types.listOf types.str;
      default = [ ];
      internal = true;
      description = "Debian packages of the guest, beside those that every guest has.";
    };
    system.missingPackages = mkOption {
      type = types.listOf types.str;
      internal = true;
      description = "Packages that a profile asks for by name and the base does not have.";
    };
  };

  config = {
    system.ignored = lib.optional (config.i18n.defaultLocale != locale) "i18n.defaultLocale";

    # Only packages that are not Debian's contain files that /usr lacks.
    system.path = pkgs.buildEnv {
      name = "system-path";
      paths = lib.filter (package: !package ? missing) cfg.systemPackages;
    };
    system.debianPackages =
      lib.concatMap (package: package.debs or [ ]) cfg.systemPackages
      ++ lib.concatMap (entry: lib.optionals (entry.text != null) (pkgs.debian.usedIn entry.text)) (
        lib.attrValues cfg.etc
      );
    system.missingPackages = map (package: "pkgs.${package.missing}") (
      lib.filter (package: package ? missing) cfg.systemPackages
    );

    environment.etc = {
      "localtime" = {
        source = "/usr/share/zoneinfo/${if config.time.timeZone == null then "UTC" else config.time.timeZone}";
      };
      "locale.conf".text = "LANG=${locale}\n";
      # Read by PAM for every session, so that `ssh machine command` has it too.
      "environment".text = lib.concatLines (
        lib.mapAttrsToList (name: v: ''${name}="${show v}"'') (
          {
            PATH = searchPath;
            LANG = locale;
          }
          // variables
        )
      );
      "shells".text = lib.concatLines ([ "/bin/sh" "/bin/bash" "/usr/bin/bash" ] ++ map toString cfg.shells);
      "profile".text = ''
        export PATH=${searchPath}
        ${lib.concatLines (lib.mapAttrsToList (name: v: "export ${name}=${lib.escapeShellArg (show v)}") variables)}
        ${cfg.shellInit}
        ${cfg.loginShellInit}
        if [ -n "''${BASH_VERSION-}" ] && [ -n "''${PS1-}" ]; then . /etc/bash.bashrc; fi
        for script in /etc/profile.d/*.sh; do if [ -r "$script" ]; then . "$script"; fi; done
        unset script
      '';
      "bash.bashrc".text = ''
        [ -z "''${PS1-}" ] && return
        shopt -s checkwinsize
        PS1='\u@\h:\w\$ '
        ${lib.concatLines (
          lib.mapAttrsToList (name: v: "alias ${name}=${lib.escapeShellArg v}") (
            lib.filterAttrs (_: v: v != null) cfg.shellAliases
          )
        )}
        ${cfg.interactiveShellInit}
      '';
    };
  };
}
