# From an evaluated system to disk images: one base per profile, one thin disk per machine.
#
#   base.qcow2   GPT | nixvm-esp: systemd-boot, kernel, initrd | nixvm-base: `/`, and the profile's closure
#   disk.qcow2   the same bytes, through its backing file      | nixvm-delta: the machine's closure minus that
#
# In the guest the two closures are /nix/.base/store and /nix/.delta/store; modules/immutable.nix mounts them.
#
# What it asks of the package set, so that one much smaller than nixpkgs can stand in for it:
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

  # What must be in the store for a system to run; the tree of `/` for what /bin/sh and /usr/bin/env lead to.
  rootPathsOf = config: [
    config.system.build.toplevel
    config.nixvm.image.rootSkeleton
  ];
  closureOf = config: "${pkgs.closureInfo { rootPaths = rootPathsOf config; }}/store-paths";

  # Nix finds store paths inside an image and would keep every closure alive that an image was made from.
  imageAttrs = {
    __structuredAttrs = true;
    unsafeDiscardReferences.out = true;
    preferLocalBuild = true; # the closure is here; sending it elsewhere costs more than the work
    nativeBuildInputs = [
      pkgs.dosfstools
      pkgs.erofs-utils
      pkgs.mtools
      pkgs.qemu-utils
      pkgs.util-linux
    ];
  };

  # The tree of `/` is laid out at `/`; a second copy of it in the store would only take space.
  # Hard links are not kept: whether a store has any depends on its optimiser, and images must not.
  copyPaths = ''
    copy_paths() { # TARGET WANTED [UNWANTED...]; both are lists of store paths
      mkdir -p "$1"
      LC_ALL=C comm -23 <(LC_ALL=C sort -u "$2") <(printf '%s\n' "$skeleton" | LC_ALL=C sort -u - "''${@:3}") |
        xargs -r -d '\n' cp -R --no-dereference --preserve=mode --reflink=auto -t "$1"
    }
  '';

  # `store` is the list of paths that go along; without them it is a base that only boots.
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

  # The name a pool knows the base by. It follows from the inputs, so it is known before anything is built.
  baseName =
    base:
    let
      storeName = baseNameOf (builtins.unsafeDiscardStringContext "${base}");
    in
    "nixvm-base-${builtins.substring 0 32 storeName}.qcow2";

  # The files of /nix/.delta/machine, by name: what one build of a machine has and no other. They are no part of the system, so
  # that two builds of the same system are the same store path whatever their numbers.
  machineFiles =
    config:
    let
      cfg = config.nixvm;
      orEmpty = value: if value == null then "" else value;
    in
    {
      # os-release(5) syntax: what nixvm, and a person at the console, can compare with what is declared.
      nixvm-release = ''
        MACHINE="${orEmpty cfg.machine}"
        PROFILE="${cfg.profile}"
        GENERATION="${toString cfg.generation}"
        DIGEST="${orEmpty cfg.digest}"
        NIXPKGS_REVISION="${cfg.nixpkgsRevision}"
      '';
    };

  # Decides whether two builds are the same to whoever uses the machine, so that none is restarted for a comment. Of the
  # machine's files the number, the digest and the revision of nixpkgs do not count: they say where a build comes from.
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

  # What the whole system is made of, base and delta, so that nixvm can say what a new image changes when the closure of
  # the old one is long gone: its store paths, and its units by the digests of their files. Like the images it names store
  # paths and keeps none of them alive.
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

  # What every machine of a profile boots from and stands on, and so cannot have of its own.
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
    # The modules' own assertions go first: they know better what is wrong.
    assert builtins.isString config.system.build.toplevel.drvPath;
    if changed != [ ] && !whole then
      throw ''
        nixvm: machine `${name}` changes what all machines of profile `${profileName}` boot from:
        ${lib.concatMapStringsSep "\n" (change: "- ${change}") changed}
        Put that in the profile, or in a profile of its own.
        Or set nixvm.image.layout = "whole" in machines/${name}/extra.nix, and the machine gets a base image to itself.''
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
