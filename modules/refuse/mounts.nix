# Mount points and swap files on the read-only `/`. `fileSystems` adds its mount points to the image (root.nix). Below
# /etc only an entry of environment.etc creates a folder, and mount units add no folder anywhere.
{ config, lib, ... }:
let
  paths = import ../paths.nix { inherit config lib; };
  isThere = path: paths.isMadeAtBoot path || paths.isInImage path;

  below = lib.filter (path: paths.isBelow "/etc" path && path != "/etc" && !isThere path) (
    map (fs: paths.normalise fs.mountPoint) (
      lib.filter (fs: fs.enable or true) (lib.attrValues config.fileSystems)
    )
  );

  units =
    kind: list:
    map (unit: {
      inherit kind;
      path = paths.normalise unit.where;
    }) (lib.filter (unit: unit.enable or true && paths.isKnown unit.where) list);
  # On another file system systemd creates the folder.
  isOnAnother = path: lib.any (parent: parent != path && paths.isBelow parent path) paths.mounted;
  byHand = lib.filter ({ path, ... }: !isThere path && !isOnAnother path) (
    units "systemd.mounts" (paths.unitsOf "mounts") ++ units "systemd.automounts" (paths.unitsOf "automounts")
  );

  swapFiles = lib.filter (path: lib.hasPrefix "/" path && !paths.isWritable path) (
    map (swap: paths.normalise swap.device) (config.swapDevices or [ ])
  );
in
{
  assertions =
    map (path: {
      assertion = false;
      message = ''
        nixvm: fileSystems."${path}" cannot be mounted: there is no such folder in the immutable /etc.
        To keep it on the data disk: ${paths.wayOut path}
        To mount another file system, mount it below /mnt or /var and link to it with environment.etc."${lib.removePrefix "/etc/" path}".source.'';
    }) below
    ++ map (
      { kind, path }:
      {
        assertion = false;
        message = ''
          nixvm: ${kind} has where = "${path}", and there is no such folder in the read-only `/` to mount on. Declare it as
          fileSystems."${path}", which adds the folder to the image ("noauto" and "x-systemd.automount" are options there),
          or mount it below /run or /var.'';
      }
    ) byHand
    ++ map (path: {
      assertion = false;
      message = ''
        nixvm: swapDevices has the file ${path}, which is on the read-only `/`. Put it on the data disk: /var/swapfile.
        There it is part of snapshots and backups; zramSwap.enable = true; needs no disk.'';
    }) swapFiles;
}
