# Which paths of a guest can be written to, and which are there although they cannot. A function, not a module: what
# refuses a configuration and what makes the image ask the same questions.
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

  # What the kernel, systemd and the data disk fill at every boot. A folder below is made when it is wanted.
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

  # Units that were written by hand. NixOS has a list of them; the offline base a set of its own ones.
  unitsOf =
    kind:
    let
      units = config.systemd.${kind} or [ ];
    in
    lib.optionals (builtins.isList units) units;

  # File systems of a profile's own, in either of the ways to declare one.
  mounted =
    map (fs: normalise fs.mountPoint) (
      lib.filter (
        fs: fs.enable or true && normalise fs.mountPoint != "/" && !lib.elem "ro" fs.options
      ) (lib.attrValues config.fileSystems)
    )
    ++ map (mount: normalise mount.where) (unitsOf "mounts");
  isWritable = isBelowAny (madeAtBoot ++ mounted);

  # What can be said of a path only while the guest runs: systemd's specifiers, variables, patterns.
  isKnown = path: lib.hasPrefix "/" path && builtins.match ".*[%$*?].*" path == null;

  etcTargets = map (entry: normalise "/etc/${entry.target}") (
    lib.filter (entry: entry.enable) (lib.attrValues config.environment.etc)
  );

  # Whether the image holds it: a folder or link of `/`, a path of the store, an entry of /etc, or a folder above one.
  # What is below an entry of /etc may be there too, for the entry may be a link to a folder.
  isInImage =
    path:
    isBelow builtins.storeDir path
    || lib.any (isBelow path) (config.nixvm.image.folders ++ lib.attrNames config.nixvm.image.links)
    || lib.any (target: isBelow path target || isBelow target path) etcTargets;

  # The folder to keep so that `path` can be written: /srv for /srv/git, /etc/rancher for /etc/rancher/k3s.
  toPersist =
    path:
    let
      parts = lib.filter (part: part != "") (lib.splitString "/" path);
    in
    "/" + lib.concatStringsSep "/" (lib.take (if isBelow "/etc" path then 2 else 1) parts);
  wayOut = path: ''nixvm.persist = [ "${toPersist path}" ];'';
}
