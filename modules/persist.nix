# Why: some software insists on a path that is part of the read-only image (/srv, /opt, /etc/rancher). This module keeps such a
# folder on the data disk, so that snapshots and backups contain it, and mounts it where the software looks for it.
{ config, lib, ... }:
let
  cfg = config.nixvm;
  paths = import ./paths.nix { inherit config lib; };
  source = path: "/var/persist${path}";

  isEtc = paths.isBelow "/etc";
  below = path: lib.removePrefix "/etc/" path;

  # Paths that must come from the image or from the kernel.
  isSystems =
    path:
    lib.elem path [
      "/"
      "/bin"
      "/etc"
      "/lib"
      "/lib64"
      "/sbin"
      "/usr"
      "/usr/bin"
    ]
    || paths.isBelowAny [
      "/boot"
      "/dev"
      "/nix"
      "/proc"
      "/run"
      "/sys"
      "/tmp"
    ] path;
  isKeptAnyway = paths.isBelowAny [
    "/home"
    "/root"
    "/var"
  ];
  # The assertions below refuse the other paths; they must not cause mounts before that.
  kept = lib.filter (path: !isSystems path) cfg.persist;
  hidden =
    path:
    lib.filter (target: baseNameOf target != ".nixvm" && paths.isBelow path target) paths.etcTargets;
in
{
  options.nixvm.persist = lib.mkOption {
    # A path in another form would be mounted at another place than the assertions check.
    type = lib.types.listOf (lib.types.strMatching "(/[^/[:space:]]+)+");
    default = [ ];
    apply = lib.unique;
    example = [
      "/srv"
      "/etc/rancher"
    ];
    description = ''
      Folders outside /var that can be written to and that persist. Each is kept in /var/persist and mounted at its
      path. It begins empty and belongs to root with mode 0755; a tmpfiles rule can change that.
    '';
  };

  config = {
    fileSystems = lib.genAttrs kept (path: {
      device = source path;
      fsType = "none";
      options = [ "bind" ]; # systemd creates the source
      depends = [ "/var" ];
    });

    # /etc consists of its entries, so an entry creates the folder to mount on. The mount hides the entry.
    environment.etc = lib.listToAttrs (
      map (
        path:
        lib.nameValuePair "${below path}/.nixvm" {
          text = "Kept in ${source path}, which was not mounted here.\n";
        }
      ) (lib.filter isEtc kept)
    );

    assertions = lib.concatMap (path: [
      {
        assertion = !isSystems path && !lib.elem ".." (lib.splitString "/" path);
        message = ''
          nixvm: nixvm.persist names ${path}, which is part of the operating system and stays as the image has it.
          Name the folder below it that the software writes to, such as /etc/rancher or /srv.'';
      }
      {
        assertion = !isKeptAnyway path;
        message = ''
          nixvm: nixvm.persist names ${path}, which is already on the data disk. Remove it from the list.'';
      }
      {
        assertion = isSystems path || hidden path == [ ];
        message = ''
          nixvm: nixvm.persist names ${path}, and the mount there would hide what environment.etc puts below it:
          ${lib.concatStringsSep ", " (hidden path)}. Name the folder below ${path} that the software writes to, or remove those entries.'';
      }
    ]) cfg.persist;
  };
}
