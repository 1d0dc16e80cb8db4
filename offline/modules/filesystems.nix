# File systems: /etc/fstab for the running guest, and a table of mounts for the initial ramdisk.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;

  # Nothing starts without these, so they are mounted before systemd starts.
  early = [
    "/"
    "/nix"
    "/nix/store"
    "/usr"
    "/var"
    "/var/lib"
    "/var/log"
  ];

  fileSystemModule =
    { name, config, ... }:
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether it is mounted.";
        };
        mountPoint = mkOption {
          type = types.str;
          default = name;
          description = "Where it is mounted.";
        };
        device = mkOption {
          type = types.nullOr types.str;
          default = if config.label != null then "/dev/disk/by-label/${config.label}" else null;
          description = "What is mounted.";
        };
        label = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "Label of the volume, instead of a device.";
        };
        fsType = mkOption {
          type = types.str;
          default = if config.overlay.lowerdir != null then "overlay" else "auto";
          description = "Type of the file system.";
        };
        options = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Mount options.";
        };
        depends = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Mount points that must be there before.";
        };
        overlay.lowerdir = mkOption {
          type = types.nullOr (types.listOf types.str);
          default = null;
          description = "Layers of an overlay without an upper one, the topmost first.";
        };
        autoResize = mkOption {
          type = types.bool;
          default = false;
          description = "Whether it grows with its disk at boot.";
        };
        neededForBoot = mkOption {
          type = types.bool;
          default = false;
          apply = needed: needed || lib.elem config.mountPoint early;
          description = "Whether the initial ramdisk mounts it.";
        };
        noCheck = mkOption {
          type = types.bool;
          default = false;
          description = "Whether it is left unchecked.";
        };
      };
    };

  fileSystems = lib.filter (fs: fs.enable) (lib.attrValues config.fileSystems);
  isBind = fs: lib.elem "bind" fs.options || lib.elem "rbind" fs.options;
  isBelow = path: parent: parent != path && (parent == "/" || lib.hasPrefix "${parent}/" path);

  # Mounts that must come before: those above it, those above its source, and those that it names.
  isBefore =
    a: b:
    isBelow b.mountPoint a.mountPoint
    || lib.any (path: path == a.mountPoint || (a.mountPoint != "/" && isBelow path a.mountPoint)) (
      b.depends
      ++ lib.optionals (b.overlay.lowerdir != null) b.overlay.lowerdir
      ++ lib.optional (isBind b && b.device != null) b.device
    );
  order =
    done: rest:
    let
      ready = lib.filter (fs: !lib.any (other: isBefore other fs) (lib.filter (o: o.mountPoint != fs.mountPoint) rest)) rest;
    in
    if rest == [ ] then
      done
    else if ready == [ ] then
      throw "the file systems ${lib.concatMapStringsSep ", " (fs: fs.mountPoint) rest} depend on one another in a circle"
    else
      order (done ++ ready) (lib.filter (fs: !lib.any (r: r.mountPoint == fs.mountPoint) ready) rest);

  deviceOf =
    fs:
    if fs.device != null then
      fs.device
    else if fs.fsType == "overlay" || fs.fsType == "tmpfs" then
      fs.fsType
    else
      throw "fileSystems.${builtins.toJSON fs.mountPoint} has neither a device nor a label";
  optionsOf =
    fs:
    fs.options ++ lib.optional (fs.overlay.lowerdir != null) "lowerdir=${lib.concatStringsSep ":" fs.overlay.lowerdir}";
  escapeField = builtins.replaceStrings [ "\\" " " "\t" ] [ "\\134" "\\040" "\\011" ];
  isChecked = fs: !fs.noCheck && !isBind fs && lib.elem fs.fsType [ "ext2" "ext3" "ext4" ];

  fstabLine =
    fs:
    let
      options =
        optionsOf fs
        ++ lib.optional fs.autoResize "x-systemd.growfs"
        ++ map (path: "x-systemd.requires-mounts-for=${path}") fs.depends;
    in
    lib.concatMapStringsSep " " escapeField [
      (deviceOf fs)
      fs.mountPoint
      fs.fsType
      (if options == [ ] then "defaults" else lib.concatStringsSep "," options)
      "0"
      # The initial ramdisk has already checked its mounts.
      (if isChecked fs && !fs.neededForBoot then "2" else "0")
    ];

  # For the kernel; the others speak to systemd, or to the script of the initial ramdisk.
  isMountOption =
    option:
    !lib.hasPrefix "x-" option && !lib.elem option [ "nofail" "noauto" "auto" "defaults" "_netdev" ];
  timeoutOf =
    fs:
    let
      found = lib.filter (option: builtins.match "x-systemd.device-timeout=[0-9]+s?" option != null) fs.options;
    in
    if found == [ ] then "90" else lib.removeSuffix "s" (lib.removePrefix "x-systemd.device-timeout=" (lib.last found));
in
{
  options = {
    fileSystems = mkOption {
      type = types.attrsOf (types.submodule fileSystemModule);
      default = { };
      description = "File systems by mount point.";
    };
    boot.tmp.useTmpfs = mkOption {
      type = types.bool;
      default = false;
      description = "Whether /tmp is in memory.";
    };
    boot.tmp.cleanOnBoot = mkOption {
      type = types.bool;
      default = false;
      description = "Whether /tmp is emptied at boot.";
    };
    system.build.initrdMounts = mkOption {
      type = types.str;
      internal = true;
      description = "A line for each mount of the initial ramdisk: device, mount point, type, options, flags, seconds to wait.";
    };
  };

  config = {
    environment.etc."fstab".text = lib.concatLines (map fstabLine (order [ ] fileSystems));

    system.build.initrdMounts = lib.concatLines (
      map (
        fs:
        lib.concatStringsSep "\t" [
          (deviceOf fs)
          fs.mountPoint
          fs.fsType
          (lib.concatStringsSep "," ([ "defaults" ] ++ lib.filter isMountOption (optionsOf fs)))
          (lib.concatStringsSep "," (
            [ "-" ] ++ lib.optional (isChecked fs) "check" ++ lib.optional (lib.elem "nofail" fs.options) "nofail"
          ))
          (timeoutOf fs)
        ]
      ) (order [ ] (lib.filter (fs: fs.neededForBoot) fileSystems))
    );

    systemd.maskedUnits = lib.mkIf (!config.boot.tmp.useTmpfs) [ "tmp.mount" ];
    systemd.tmpfiles.rules = lib.optional config.boot.tmp.cleanOnBoot "D! /tmp 1777 root root";
  };
}
