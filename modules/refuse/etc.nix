# Owners of files in /etc. NixOS puts numbers into the image of /etc and drops names: `user` and `group` have no effect
# where userborn makes the accounts, for their numbers are not known before the guest runs.
{
  config,
  lib,
  modulesPath,
  options,
  ...
}:
let
  isDropped =
    { name, id }:
    !(name == "+${toString id}" || (name == "root" && id == 0));
  owner = entry: {
    name = entry.user;
    id = entry.uid;
  };
  group = entry: {
    name = entry.group;
    id = entry.gid;
  };

  # The last digit of the mode says what everybody may do.
  isReadByAll = entry: builtins.match ".*[4-7]" entry.mode != null;
  definedHere = lib.unique (
    lib.concatMap (definition: lib.attrNames definition.value) (
      lib.filter (
        definition: !lib.hasPrefix modulesPath (toString definition.file)
      ) options.environment.etc.definitionsWithLocations or [ ]
    )
  );

  lost = lib.filterAttrs (
    name: entry:
    entry.enable
    && builtins.match "[0-7]+" entry.mode != null
    && (isDropped (owner entry) || isDropped (group entry))
    # Nothing can write there, so an owner matters to who may not read. NixOS's modules name one for files that all read.
    && (!isReadByAll entry || lib.elem name definedHere)
  ) config.environment.etc;
in
{
  assertions = lib.mapAttrsToList (
    name: entry: {
      assertion = false;
      message = ''
        nixvm: environment.etc."${name}" is to belong to ${entry.user}:${entry.group} with mode ${entry.mode}, but the immutable /etc keeps
        numbers only, and the file would be root's. Give the account a fixed number (users.users.NAME.uid) and say it here
        as `uid` and `gid`; or have a service write the file below /run or /var, where a secret belongs in any case: what is
        in environment.etc is in the Nix store too.'';
    }
  ) lost;
}
