# Owners of files in /etc. NixOS puts numbers into the image of /etc and drops names: with userborn `user` and `group` have
# no effect, because the accounts' numbers are not known before the guest runs.
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
    # Nothing can write there, so the owner matters only for files that not everybody may read. NixOS's modules also name
    # owners for files that everybody may read.
    && (!isReadByAll entry || lib.elem name definedHere)
  ) config.environment.etc;
in
{
  assertions = lib.mapAttrsToList (
    name: entry: {
      assertion = false;
      message = ''
        nixvm: environment.etc."${name}" should belong to ${entry.user}:${entry.group} with mode ${entry.mode}, but the immutable /etc stores
        only numbers, so the file would belong to root. Give the account a fixed number (users.users.NAME.uid) and set it here
        as `uid` and `gid`; or let a service write the file below /run or /var. A secret belongs there in any case, because
        the Nix store contains everything in environment.etc.'';
    }
  ) lost;
}
