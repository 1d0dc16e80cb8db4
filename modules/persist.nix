# Why: some software insists on a path that is part of the read-only image (/srv, /opt, /etc/rancher). Such a folder is
# kept on the data disk, where snapshots and backups hold it, and is mounted where the software looks for it.
{ config, lib, ... }:
let
  cfg = config.nixvm;
  paths = import ./paths.nix { inherit config lib; };
  source = path: "/var/persist${path}";

  isEtc = paths.isBelow "/etc";
  below = path: lib.removePrefix "/etc/" path;

  # What must stay the image's, or be what the kernel makes it.
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
  # The others are refused below, and may not meet what is mounted there.
  kept = lib.filter (path: !isSystems path) cfg.persist;
  hidden =
    path:
    lib.filter (target: baseNameOf target != ".nixvm" && paths.isBelow path target) paths.etcTargets;
in
{
  options.nixvm.persist = lib.mkOption {
    # A path that is not written this way would be mounted at another place than the assertions look at.
    type = lib.types.listOf (lib.types.strMatching "(/[^/[:space:]]+)+");
    default = [ ];
    apply = lib.unique;
    example = [
      "/srv"
      "/etc/rancher"
    ];
    description = ''
      Folders outside /var that can be written to and that last. Each is kept in /var/persist and mounted where it is
      wanted; it begins empty, and belongs to root with mode 0755 until a tmpfiles rule says something else.
    '';
  };

  config = {
    fileSystems = lib.genAttrs kept (path: {
      device = source path;
      fsType = "none";
      options = [ "bind" ]; # systemd makes the source
      depends = [ "/var" ];
    });

    # /etc is put together from its entries, so an entry makes the folder to mount on. The mount hides it.
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
          nixvm: nixvm.persist names ${path}, which is on the data disk already. Take it out.'';
      }
      {
        assertion = isSystems path || hidden path == [ ];
        message = ''
          nixvm: nixvm.persist names ${path}, and the mount there would hide what environment.etc puts below it:
          ${lib.concatStringsSep ", " (hidden path)}. Name the folder below ${path} that is written to, or take those entries out.'';
      }
    ]) cfg.persist;
  };
}
