# Settings that NixOS's script for accounts carries out, but not userborn, which creates the accounts here.
{
  config,
  lib,
  options,
  ...
}:
let
  paths = import ../paths.nix { inherit config lib; };
  users = lib.filterAttrs (_: user: user.enable or true) config.users.users;

  # Conventional values for "no home".
  isNowhere =
    home:
    lib.elem home [
      "/"
      "/dev/null"
      "/homeless-shelter"
      "/no-such-path"
      "/nonexistent"
    ];
  homeless = lib.filterAttrs (
    _: user:
    let
      home = paths.normalise user.home;
    in
    !isNowhere home
    && !paths.isWritable home
    && !paths.isBelow builtins.storeDir home
    && (user.createHome or false || !paths.isInImage home)
  ) users;

  has = path: lib.hasAttrByPath path options;
  hasRanges = config.environment.etc ? subuid && config.environment.etc ? subgid;
  example = name: ''
    environment.etc.subuid.text = "${name}:100000:65536\n";
    environment.etc.subgid.text = "${name}:100000:65536\n";'';
  # Normal users have an automatic range by default. A range is requested if a user is not normal, or names ranges.
  ranged = lib.attrNames (
    lib.filterAttrs (
      _: user:
      user.subUidRanges or [ ] != [ ]
      || user.subGidRanges or [ ] != [ ]
      || (user.autoSubUidGidRange or false && !user.isNormalUser)
    ) users
  );
  rootlessContainers = lib.filterAttrs (_: container: (container.podman.user or "root") != "root") (
    lib.optionalAttrs (config.virtualisation.oci-containers.backend or "" == "podman") config.virtualisation.oci-containers.containers
  );
in
{
  assertions =
    lib.mapAttrsToList (name: user: {
      assertion = false;
      message = ''
        nixvm: users.users.${name}.home is ${toString user.home}, which is on the read-only `/` and cannot be created.
        To keep it on the data disk: ${paths.wayOut (paths.normalise user.home)}
        Or give the account a home below /var/lib or /home.'';
    }) homeless
    ++ lib.optional (has [ "virtualisation" "docker" "rootless" "enable" ]) {
      assertion = config.virtualisation.docker.rootless.enable -> hasRanges;
      message = ''
        nixvm: virtualisation.docker.rootless.enable is true, but it needs /etc/subuid and /etc/subgid, and userborn, which
        creates the accounts, does not write them. Add them, with a separate range for each user:
        ${example "admin"}'';
    }
    ++ [
      {
        assertion = ranged == [ ] || hasRanges;
        message = ''
          nixvm: users.users.{${lib.concatStringsSep "," ranged}} have ranges of subordinate ids, but userborn, which creates the
          accounts, does not write them to /etc/subuid and /etc/subgid. Write them:
          ${example (lib.head (ranged ++ [ "NAME" ]))}'';
      }
      {
        assertion = rootlessContainers == { } || hasRanges;
        message = ''
          nixvm: virtualisation.oci-containers.containers.{${lib.concatStringsSep "," (lib.attrNames rootlessContainers)}}.podman.user is not
          root, but rootless podman needs /etc/subuid and /etc/subgid, and nothing writes them. Add them:
          ${example "NAME"}'';
      }
    ];
}
