# Why: `/` is part of the base image, and nothing can be added to it at boot. So this module lists every mount point and
# every file outside the store that a guest needs, as plain paths. image.nix compares a machine's lists with
# those of its profile, and can name the missing path.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.nixvm.image;
  paths = import ./paths.nix { inherit config lib; };

  mountPoints = lib.filter (path: !paths.isMadeAtBoot path && !paths.isBelow "/etc" path) (
    map (fs: paths.normalise fs.mountPoint) (lib.attrValues config.fileSystems)
  );
in
{
  options.nixvm.image = {
    folders = mkOption {
      type = types.listOf types.path;
      internal = true;
      apply = folders: lib.sort builtins.lessThan (lib.unique folders);
      example = [ "/srv" ];
      description = "Folders of `/`. A file system in `fileSystems` adds its mount point.";
    };
    links = mkOption {
      type = types.attrsOf types.str;
      internal = true;
      example = {
        "/bin/sh" = "/nix/store/…/bin/sh";
      };
      description = "Symbolic links in `/` and what each leads to.";
    };
  };

  config.nixvm.image = {
    folders = [
      "/boot"
      "/dev"
      "/etc"
      "/home"
      "/mnt"
      "/nix/.base"
      "/nix/.delta"
      "/nix/store"
      "/opt"
      "/proc"
      "/root"
      "/run"
      "/srv"
      "/sys"
      "/tmp"
      "/usr"
      "/var"
    ]
    ++ lib.filter (path: path != "/") (mountPoints ++ map dirOf (lib.attrNames cfg.links));

    links = lib.mkDefault (
      {
        "/bin/sh" = "${pkgs.bashInteractive}/bin/sh";
        "/usr/bin/env" = "${pkgs.coreutils}/bin/env";
      }
      # The fixed path of the dynamic loader, for profiles that run foreign binaries (nix-ld). NixOS creates this link with
      # systemd-tmpfiles, which finds the right link here and leaves it alone.
      // lib.optionalAttrs (config.environment.ldso != null) {
        # The loader's path is in the store; only its name counts.
        "/${pkgs.stdenv.hostPlatform.libDir}/${builtins.unsafeDiscardStringContext (baseNameOf pkgs.stdenv.cc.bintools.dynamicLinker)}" =
          config.environment.ldso;
      }
    );

    rootSkeleton = pkgs.runCommand "nixvm-root" { } ''
      ${lib.concatMapStringsSep "\n" (path: "mkdir -p $out${lib.escapeShellArg path}") cfg.folders}
      ${lib.concatStringsSep "\n" (
        lib.mapAttrsToList (path: target: ''
          ln -s ${lib.escapeShellArg target} $out${lib.escapeShellArg path}
        '') cfg.links
      )}
    '';
  };
}
