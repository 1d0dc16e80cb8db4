# Accounts. /etc/passwd and /etc/group are in the image; /etc/shadow leads to a file that userborn.service writes at boot,
# because a password's hash may come from a file that only the running guest has.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.users;
  static = import ./static-ids.nix;

  # A number for a name that has none. It follows from the name, so that another account does not change it; if two names
  # collide, one gets the next free number.
  allocate =
    taken: names:
    (lib.foldl'
      (
        acc: name:
        let
          start = 400 + lib.mod (fromHex (builtins.substring 0 6 (builtins.hashString "sha256" name))) 500;
          free = id: if lib.elem id acc.taken then free (if id == 899 then 400 else id + 1) else id;
          id = free start;
        in
        {
          taken = acc.taken ++ [ id ];
          ids = acc.ids // { ${name} = id; };
        }
      )
      {
        inherit taken;
        ids = { };
      }
      names
    ).ids;
  fromHex = string: (builtins.fromTOML "n = 0x${string}").n;

  withIds =
    field: accounts:
    let
      fixed = lib.filterAttrs (_: account: account.${field} != null) accounts;
      ids = allocate (lib.mapAttrsToList (_: account: account.${field}) fixed) (
        lib.attrNames (removeAttrs accounts (lib.attrNames fixed))
      );
    in
    lib.mapAttrs (name: account: account // { ${field} = if account.${field} != null then account.${field} else ids.${name}; }) accounts;

  enabled = lib.filterAttrs (_: user: user.enable) cfg.users;
  users = withIds "uid" enabled;
  groups = withIds "gid" cfg.groups;
  membersOf =
    group:
    lib.unique (
      cfg.groups.${group}.members
      ++ lib.attrNames (lib.filterAttrs (_: user: lib.elem group user.extraGroups) enabled)
    );
  normal = lib.filterAttrs (_: user: user.isNormalUser) users;
  shellOf = user: if user.shell ? debs then "/usr/bin/${user.shell.meta.mainProgram}" else "${user.shell}";

  userModule =
    { name, config, ... }:
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether the account exists.";
        };
        name = mkOption {
          type = types.str;
          default = name;
          description = "The account's name.";
        };
        description = mkOption {
          type = types.str;
          default = "";
          description = "The full name.";
        };
        uid = mkOption {
          type = types.nullOr types.int;
          default = static.users.${name}.uid or null;
          description = "The number; null takes one that follows from the name.";
        };
        group = mkOption {
          type = types.str;
          default = if config.isNormalUser then "users" else if cfg.groups ? ${name} then name else "nogroup";
          description = "The primary group.";
        };
        extraGroups = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Further groups.";
        };
        home = mkOption {
          type = types.str;
          default = static.users.${name}.home or (if config.isNormalUser then "/home/${name}" else "/nonexistent");
          description = "The home folder.";
        };
        homeMode = mkOption {
          type = types.strMatching "[0-7]{1,5}";
          default = "700";
          description = "Mode of the home folder.";
        };
        createHome = mkOption {
          type = types.bool;
          default = config.isNormalUser;
          description = "Whether the home folder is made at boot.";
        };
        shell = mkOption {
          type = types.either types.package types.path;
          default = if config.isNormalUser || name == "root" then "/bin/bash" else "/usr/sbin/nologin";
          description = "The login shell.";
        };
        isNormalUser = mkOption {
          type = types.bool;
          default = false;
          description = "Whether this is a person's account.";
        };
        isSystemUser = mkOption {
          type = types.bool;
          default = false;
          description = "Whether this is a service's account.";
        };
        linger = mkOption {
          type = types.nullOr types.bool;
          default = null;
          description = "Whether the account's services run without a login.";
        };
        hashedPassword = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "A crypt(5) hash, readable by everyone who can read the image.";
        };
        hashedPasswordFile = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "File of the running guest with a crypt(5) hash in its first line.";
        };
        initialHashedPassword = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "As `hashedPassword`: nothing changes a password later.";
        };
        openssh.authorizedKeys = {
          keys = mkOption {
            type = types.listOf types.singleLineStr;
            default = [ ];
            description = "Public keys that may log in.";
          };
          keyFiles = mkOption {
            type = types.listOf types.path;
            default = [ ];
            description = "Files of public keys that may log in.";
          };
        };
      };
    };

  groupModule =
    { name, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          description = "The group's name.";
        };
        gid = mkOption {
          type = types.nullOr types.int;
          default = static.groups.${name} or null;
          description = "The number; null takes one that follows from the name.";
        };
        members = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Accounts in the group.";
        };
      };
    };

  # NAME, a tab, and the hash or `file:` with a path. An account without a password is locked.
  hashOf =
    user:
    if user.hashedPasswordFile != null then
      "file:${user.hashedPasswordFile}"
    else if user.hashedPassword != null then
      user.hashedPassword
    else if user.initialHashedPassword != null then
      user.initialHashedPassword
    else
      "!*";
  passwords = pkgs.writeText "passwords" (
    lib.concatLines (lib.mapAttrsToList (_: user: "${user.name}\t${hashOf user}") users)
  );
in
{
  options = {
    users = {
      users = mkOption {
        type = types.attrsOf (types.submodule userModule);
        default = { };
        description = "Accounts.";
      };
      groups = mkOption {
        type = types.attrsOf (types.submodule groupModule);
        default = { };
        description = "Groups.";
      };
      defaultUserShell = mkOption {
        type = types.either types.package types.path;
        default = "/bin/bash";
        description = "Accepted: an account's own `shell` decides.";
      };
    };
    services.userborn.enable = mkOption {
      type = types.bool;
      default = true;
      description = "Always on: accounts come from the image.";
    };
  };

  config = {
    assertions = lib.mapAttrsToList (name: user: {
      assertion = groups ? ${user.group};
      message = "users.users.${name}.group is `${user.group}`, and there is no such group; add users.groups.${user.group} = { };";
    }) users;

    users.users = lib.mapAttrs (_: user: {
      isSystemUser = true;
      group = user.group;
    }) static.users;
    users.groups = lib.mapAttrs (_: _: { }) static.groups;

    environment.etc = {
      "passwd".text = lib.concatLines (
        map (
          user:
          lib.concatStringsSep ":" [
            user.name
            "x"
            (toString user.uid)
            (toString groups.${user.group}.gid)
            user.description
            user.home
            (shellOf user)
          ]
        ) (lib.sortOn (user: user.uid) (lib.attrValues users))
      );
      "group".text = lib.concatLines (
        map (group: "${group.name}:x:${toString group.gid}:${lib.concatStringsSep "," (membersOf group.name)}") (
          lib.sortOn (group: group.gid) (lib.attrValues groups)
        )
      );
      "shadow".source = "/run/userborn/shadow";
      # 65536 numbers for the containers of each user, beginning after systemd's own ranges.
      "subuid".text = lib.concatLines (
        lib.mapAttrsToList (name: user: "${name}:${toString (100000 + (user.uid - 1000) * 65536)}:65536") normal
      );
      "subgid".text = config.environment.etc."subuid".text;
    };

    systemd.services.userborn = {
      description = "Passwords of the image's accounts";
      # Wanted, as in NixOS: restarting a unit that a target requires would stop the target, and with it all services.
      wantedBy = [ "sysinit.target" ];
      before = [
        "sysinit.target"
        "systemd-tmpfiles-setup-dev.service"
        "shutdown.target"
      ];
      conflicts = [ "shutdown.target" ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        # The file's owner and mode, without a process for each.
        Group = "shadow";
        UMask = "0027";
        RuntimeDirectory = "userborn";
        RuntimeDirectoryPreserve = true;
        ExecStart = "/bin/sh ${./userborn.sh} ${passwords}";
      };
    };

    systemd.tmpfiles.rules = lib.mapAttrsToList (_: user: "f /var/lib/systemd/linger/${user.name} 0644 root root") (
      lib.filterAttrs (_: user: user.linger == true) users
    );
    systemd.tmpfiles.settings.home-directories = lib.mapAttrs' (
      _: user:
      lib.nameValuePair user.home {
        d = {
          mode = user.homeMode;
          user = user.name;
          inherit (user) group;
        };
      }
    ) (lib.filterAttrs (_: user: user.createHome) users);
  };
}
