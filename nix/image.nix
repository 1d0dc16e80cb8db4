# From an evaluated system to disk images: one base per profile, one thin disk per machine.
#
#   base.qcow2   GPT | nixvm-esp: systemd-boot, kernel, initrd | nixvm-base: `/`, and the profile's closure
#   disk.qcow2   the same bytes, through its backing file      | nixvm-delta: the machine's closure minus that
#
# In the guest the two closures are /nix/.base/store and /nix/.delta/store; modules/immutable.nix mounts them.
#
# It uses only these parts of the package set, so that a much smaller one can replace nixpkgs:
#   pkgs    runCommand (with structured attributes), closureInfo, writeText, linkFarm,
#           stdenv.hostPlatform.{system,efiArch}, systemd (for lib/systemd/boot/efi),
#           erofs-utils, mtools, dosfstools, util-linux, qemu-utils, jq
#   lib     concatMapStringsSep, optionalAttrs, toUpper, and what differences.nix inherits
#   config  nixvm.*, environment.etc."systemd/system".source, boot.kernelPackages.kernel (a derivation with `version`),
#           boot.kernelParams,
#           system.boot.loader.{kernelFile,initrdFile}, system.build.{initialRamdisk,toplevel}; toplevel holds `init`
{ pkgs, lib }:
let
  inherit (pkgs.stdenv.hostPlatform) efiArch system;

  kernelOf = config: "${config.boot.kernelPackages.kernel}/${config.system.boot.loader.kernelFile}";
  initrdOf = config: "${config.system.build.initialRamdisk}/${config.system.boot.loader.initrdFile}";

  # The roots that a system needs in the store; the tree of `/` is one because of /bin/sh and /usr/bin/env.
  rootPathsOf = config: [
    config.system.build.toplevel
    config.nixvm.image.rootSkeleton
  ];
  closureOf = config: "${pkgs.closureInfo { rootPaths = rootPathsOf config; }}/store-paths";

  # Nix finds store paths inside an image and would keep alive every closure that an image was made from.
  imageAttrs = {
    __structuredAttrs = true;
    unsafeDiscardReferences.out = true;
    preferLocalBuild = true; # sending the closure to another builder costs more than the build
    nativeBuildInputs = [
      pkgs.dosfstools
      pkgs.erofs-utils
      pkgs.mtools
      pkgs.qemu-utils
      pkgs.util-linux
    ];
  };

  # The tree of `/` becomes `/` itself, so it is left out of the store.
  # Hard links are not kept: the store's optimiser makes them, and images must not depend on that.
  copyPaths = ''
    copy_paths() { # TARGET WANTED [UNWANTED...]; both are lists of store paths
      mkdir -p "$1"
      LC_ALL=C comm -23 <(LC_ALL=C sort -u "$2") <(printf '%s\n' "$skeleton" | LC_ALL=C sort -u - "''${@:3}") |
        xargs -r -d '\n' cp -R --no-dereference --preserve=mode --reflink=auto -t "$1"
    }
  '';

  # `store` is the list of store paths in the image; with none it is a base that only boots.
  baseImage =
    {
      name,
      config,
      store,
    }:
    pkgs.runCommand "nixvm-base-${name}"
      (
        imageAttrs
        // {
          inherit store;
          skeleton = "${config.nixvm.image.rootSkeleton}";
          kernel = kernelOf config;
          initrd = initrdOf config;
          params = toString config.boot.kernelParams;
          loader = "${pkgs.systemd}/lib/systemd/boot/efi/systemd-boot${efiArch}.efi";
          loaderName = "BOOT${lib.toUpper efiArch}.EFI";
        }
      )
      ''
        ${copyPaths}
        cp -R --no-dereference --preserve=mode "$skeleton" root
        find root -type d -exec chmod 0755 {} +
        copy_paths root/nix/.base/store "$store"
        mkdir $out
        bash ${./disk.sh} base $out/base.qcow2 $out/layout root \
          "$kernel" "$initrd" "$params" "$loader" "$loaderName"
      '';

  # The base's name in a pool. It follows from the inputs, so it is known before anything is built.
  baseName =
    base:
    let
      storeName = baseNameOf (builtins.unsafeDiscardStringContext "${base}");
    in
    "nixvm-base-${builtins.substring 0 32 storeName}.qcow2";

  # The files of /nix/.delta/machine, by name, which are specific to one build of a machine. They are not part of the system, so
  # that two builds of the same system have the same store path whatever their numbers.
  machineFiles =
    config:
    let
      cfg = config.nixvm;
      orEmpty = value: if value == null then "" else value;
    in
    {
      # os-release(5) syntax. nixvm, or a person at the console, can compare it with the declared machine.
      nixvm-release = ''
        MACHINE="${orEmpty cfg.machine}"
        PROFILE="${cfg.profile}"
        GENERATION="${toString cfg.generation}"
        DIGEST="${orEmpty cfg.digest}"
        NIXPKGS_REVISION="${cfg.nixpkgsRevision}"
      '';
    };

  # Decides whether two builds are the same system, so that a comment restarts no machine. The number, the digest and the
  # revision of nixpkgs do not count, because they only say where a build comes from.
  fingerprintOf =
    config:
    builtins.hashString "sha256" (
      builtins.unsafeDiscardStringContext (
        builtins.toJSON {
          inherit (config.nixvm) machine profile;
          inherit (config.nixvm.image) layout;
          toplevel = "${config.system.build.toplevel}";
          # The base system's toplevel need not hold these.
          kernel = kernelOf config;
          initrd = initrdOf config;
          params = toString config.boot.kernelParams;
          skeleton = "${config.nixvm.image.rootSkeleton}";
        }
      )
    );

  thinDisk =
    {
      name,
      config,
      base,
      baseStore,
    }:
    pkgs.runCommand "nixvm-disk-${name}.qcow2"
      (
        imageAttrs
        // {
          inherit baseStore;
          store = closureOf config;
          skeleton = "${config.nixvm.image.rootSkeleton}";
          toplevel = "${config.system.build.toplevel}";
          layout = "${base}/layout";
          backing = baseName base;
          files = machineFiles config;
        }
      )
      ''
        ${copyPaths}
        copy_paths root/store "$store" "$baseStore"
        mkdir root/machine
        for file in "''${!files[@]}"; do printf %s "''${files[$file]}" >"root/machine/$file"; done
        ln -s "$toplevel" root/system
        bash ${./disk.sh} thin $out "$layout" root "$backing"
      '';

  imageJson =
    {
      base,
      config,
      machine ? null,
    }:
    pkgs.writeText "image.json" (
      builtins.toJSON (
        {
          format = 2;
          inherit (config.nixvm) nixpkgsRevision notCarriedOut profile;
          inherit (config.nixvm.image) layout;
          inherit system;
          base = baseName base;
          kernel = config.boot.kernelPackages.kernel.version;
        }
        // lib.optionalAttrs (machine != null) {
          inherit machine;
          fingerprint = fingerprintOf config;
          # Text only: the image is complete without the closure it was made from.
          toplevel = builtins.unsafeDiscardStringContext "${config.system.build.toplevel}";
        }
      )
    );

  # Lists the contents of the whole system, base and delta: its store paths, and its units by the digests of their files. So
  # nixvm can say what a new image changes when the closure of the old one is long gone. Like the images it names store
  # paths and does not keep them alive.
  closureJson =
    config:
    pkgs.runCommand "closure.json"
      {
        __structuredAttrs = true;
        unsafeDiscardReferences.out = true;
        preferLocalBuild = true;
        nativeBuildInputs = [ pkgs.jq ];
        exportReferencesGraph.closure = rootPathsOf config;
        kernel = config.boot.kernelPackages.kernel.version;
        units = "${config.environment.etc."systemd/system".source}";
      }
      ''
        cd "$units"
        # A masked unit is a link to /dev/null. One that leads nowhere has no content, and systemd does not read it either.
        find -L . ! -type d ! -type l -printf '%P\0' | LC_ALL=C sort -z | xargs -0 -r sha256sum --zero -- > "$TMPDIR/units"
        jq --rawfile units "$TMPDIR/units" '{
          format: 2,
          kernel,
          paths: (.closure | map({ path, narSize }) | sort_by(.path)),
          # Each is 64 digits, two characters and a name.
          units: ($units | split("\u0000") | map(select(. != "") | { key: .[66:], value: .[:64] }) | from_entries)
        }' "$NIX_ATTRS_JSON_FILE" > $out
      '';

  profileBase =
    name: config:
    baseImage {
      inherit name config;
      store = closureOf config;
    };

  # The parts that all machines of a profile share, and that no machine can change.
  differences = import ./differences.nix { inherit lib; };
in
{
  # A folder with base.qcow2 and image.json.
  profile =
    name: config:
    let
      base = profileBase name config;
    in
    pkgs.linkFarm "nixvm-profile-${name}" [
      {
        name = "base.qcow2";
        path = "${base}/base.qcow2";
      }
      {
        name = "image.json";
        path = imageJson { inherit base config; };
      }
    ];

  # A folder with disk.qcow2, the base.qcow2 it stands on, image.json and closure.json.
  machine =
    name:
    {
      config,
      profileName,
      profile,
    }:
    let
      whole = config.nixvm.image.layout == "whole";
      changed = differences config profile;
      base =
        if whole then
          baseImage {
            name = "of-${name}";
            inherit config;
            store = "/dev/null";
          }
        else
          profileBase profileName profile;
      disk = thinDisk {
        inherit name config base;
        baseStore = if whole then "/dev/null" else closureOf profile;
      };
    in
    # Evaluate the modules' assertions first, because their messages are more precise.
    assert builtins.isString config.system.build.toplevel.drvPath;
    if changed != [ ] && !whole then
      throw ''
        nixvm: machine `${name}` changes what all machines of profile `${profileName}` boot from:
        ${lib.concatMapStringsSep "\n" (change: "- ${change}") changed}
        Put the change into the profile, or into a new profile.
        Or set nixvm.image.layout = "whole" in machines/${name}/extra.nix; the machine then gets its own base image.''
    else
      pkgs.linkFarm "nixvm-${name}" [
        {
          name = "disk.qcow2";
          path = disk;
        }
        {
          name = "base.qcow2";
          path = "${base}/base.qcow2";
        }
        {
          name = "image.json";
          path = imageJson {
            inherit base config;
            machine = name;
          };
        }
        {
          name = "closure.json";
          path = closureJson config;
        }
      ];
}
