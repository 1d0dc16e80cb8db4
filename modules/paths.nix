# Tells which paths of a guest can be written, and which exist read-only. A function, not a module, because the refusals
# and the image builder ask the same questions.
{ config, lib }:
rec {
  # Without doubled and trailing slashes.
  normalise =
    path:
    let
      parts = lib.filter (part: part != "" && part != ".") (lib.splitString "/" (toString path));
    in
    "/" + lib.concatStringsSep "/" parts;

  # Whether `path` is `parent` or below it. Both are normalised.
  isBelow = parent: path: parent == "/" || path == parent || lib.hasPrefix "${parent}/" path;
  isBelowAny = parents: path: lib.any (parent: isBelow parent path) parents;

  # The kernel, systemd and the data disk fill these at every boot. Folders below them are created when needed.
  madeAtBoot = [
    "/dev"
    "/home"
    "/proc"
    "/root"
    "/run"
    "/sys"
    "/tmp"
    "/var"
  ];
  isMadeAtBoot = isBelowAny madeAtBoot;

  # Units that the configuration lists. NixOS has a list of them; the offline base has a set, of its own units only.
  unitsOf =
    kind:
    let
      units = config.systemd.${kind} or [ ];
    in
    lib.optionals (builtins.isList units) units;

  # The profile's own writable file systems, declared in either way.
  mounted =
    map (fs: normalise fs.mountPoint) (
      lib.filter (
        fs: fs.enable or true && normalise fs.mountPoint != "/" && !lib.elem "ro" fs.options
      ) (lib.attrValues config.fileSystems)
    )
    ++ map (mount: normalise mount.where) (unitsOf "mounts");
  isWritable = isBelowAny (madeAtBoot ++ mounted);

  # False for paths that only the running guest knows: systemd's specifiers, variables, patterns.
  isKnown = path: lib.hasPrefix "/" path && builtins.match ".*[%$*?].*" path == null;

  etcTargets = map (entry: normalise "/etc/${entry.target}") (
    lib.filter (entry: entry.enable) (lib.attrValues config.environment.etc)
  );

  # Whether the image contains the path: a folder or link of `/`, a path of the store, an entry of /etc, or a folder above one.
  # A path below an entry of /etc counts too, because the entry may be a link to a folder.
  isInImage =
    path:
    isBelow builtins.storeDir path
    || lib.any (isBelow path) (config.nixvm.image.folders ++ lib.attrNames config.nixvm.image.links)
    || lib.any (target: isBelow path target || isBelow target path) etcTargets;

  # The folder to persist so that `path` can be written: /srv for /srv/git, /etc/rancher for /etc/rancher/k3s.
  toPersist =
    path:
    let
      parts = lib.filter (part: part != "") (lib.splitString "/" path);
    in
    "/" + lib.concatStringsSep "/" (lib.take (if isBelow "/etc" path then 2 else 1) parts);
  wayOut = path: ''nixvm.persist = [ "${toPersist path}" ];'';
}
