# Settings that need Nix inside the guest, which has a read-only store and no Nix daemon.
{
  config,
  lib,
  options,
  ...
}:
let
  # Whether an option, which may not exist, has another value than `unset`.
  set =
    unset: name:
    let
      path = lib.splitString "." name;
    in
    lib.hasAttrByPath path options && lib.getAttrFromPath path config != unset;

  onHost = "build on the host, with `nixvm upgrade NAME` or `nixvm build`";
  needing = {
    "nix.gc.automatic" = "remove the definition; the store is part of the image and holds only what the machine runs";
    "nix.optimise.automatic" = "remove the definition; the store is part of the image and never changes";
    "nix.sshServe.enable" = "serve a store from another host";
    "programs.nh.clean.enable" = "remove the definition; the store is part of the image and holds only what the machine runs";
    "services.cachix-agent.enable" = onHost;
    "services.comin.enable" = onHost;
    "services.hercules-ci-agent.enable" = "run it on another host, or in an ordinary NixOS";
    "services.hydra.enable" = "run it on another host, or in an ordinary NixOS";
    "services.nix-serve.enable" = "serve a store from another host";
    "system.autoUpgrade.enable" = "upgrade from the host, for example with a timer there that runs `nixvm upgrade NAME`";
  };
  wanted = lib.filter (set false) (lib.attrNames needing);

  homeManager = lib.attrByPath [ "home-manager" "users" ] { } config;
  containers = lib.attrNames (config.containers or { });
  names = lib.concatStringsSep ", ";
in
{
  assertions =
    map (name: {
      assertion = false;
      message = "nixvm: ${name} is set, but it needs Nix in the guest, which cannot build and has a read-only store. Instead: ${needing.${name}}.";
    }) wanted
    ++ lib.optional (options ? home-manager) {
      assertion = homeManager == { };
      message = ''
        nixvm: home-manager.users has ${names (lib.attrNames homeManager)}, but home-manager's activation adds a profile to
        the Nix store when the guest boots, and the store is read-only. Put packages into users.users.NAME.packages,
        configuration for all users into environment.etc or programs.*, and links in a home into systemd.user.tmpfiles.'';
    }
    ++ lib.optional (options ? containers) {
      assertion = containers == [ ];
      message = ''
        nixvm: containers.${lib.concatStringsSep ", containers." containers} would not start: NixOS's containers keep their profile and their
        roots below /nix/var, which is read-only. Use virtualisation.oci-containers (podman or docker), a separate
        machine, or the services themselves.'';
    };
}
