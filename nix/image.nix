# From an evaluated system to disk images: one base per profile, one thin disk per machine.
#
#   base.qcow2   GPT | nixvm-esp: systemd-boot, kernel, initrd | nixvm-base: `/`, and the profile's closure
#   disk.qcow2   the same bytes, through its backing file      | nixvm-delta: the machine's files; its closure minus the base's
#
# In the guest the two closures are /nix/.base/store and /nix/.delta/store; modules/immutable.nix mounts them. The machine's files
# are /nix/.delta/machine; modules/machine.nix leads there. A machine that shares its profile's evaluation has only these.
#
# It uses only these parts of the package set, so that a much smaller one can replace nixpkgs:
#   pkgs    runCommand (with structured attributes), closureInfo, writeText, linkFarm,
#           stdenv.hostPlatform.{system,efiArch}, systemd (for lib/systemd/boot/efi),
#           erofs-utils, mtools, dosfstools, util-linux, qemu-utils, jq
#   lib     concatMapStringsSep, optionalAttrs, toUpper, and what differences.nix inherits
#   config  nixvm.*, environment.etc."systemd/system".source, boot.kernelPackages.kernel (a derivation with `version`),
#           boot.kernelParams,
#           system.boot.loader.{kernelFile,initrdFile}, system.build.{initialRamdisk,toplevel}; toplevel holds `init`
{
  pkgs,
  lib,
  # The evaluated profiles, by name.
  profiles,
}:
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

  # An output with an image discards its references: Nix finds store paths inside and would keep alive every closure that the image
  # was made from.
  imageAttrs = {
    __structuredAttrs = true;
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
          unsafeDiscardReferences.out = true;
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

  # The files of /nix/.delta/machine, by name, but for two: nixvm-release says which build of the machine it is, and hosts is made
  # from a file that is only built later.
  machineFiles =
    { networking, nixvm, ... }:
    let
      lines = lib.concatMapStrings (line: "${toString line}\n");
      accept =
        protocol: list:
        lib.optionalString (
          list != [ ]
        ) "${protocol} dport { ${lib.concatMapStringsSep ", " toString list} } accept\n";
    in
    {
      hostname = "${networking.hostName}\n";
      # With a final newline: if it is "uninitialized" or empty, every boot is a first boot.
      machine-id = lib.optionalString (nixvm.machineId != null) "${nixvm.machineId}\n";
      "resolv.conf" = nixvm.resolvConf;
      "authorized_keys/admin" = lines nixvm.adminKeys;
      "authorized_keys/user" = lines nixvm.userKeys;
      # One for each firewall that NixOS has.
      ports = lines (
        map (port: "tcp ${toString port}") nixvm.tcpPorts ++ map (port: "udp ${toString port}") nixvm.udpPorts
      );
      "nftables.d/ports.nft" = accept "tcp" nixvm.tcpPorts + accept "udp" nixvm.udpPorts;
    }
    // lib.optionalAttrs (nixvm.rootPasswordHash != null) {
      root_password_hash = "${nixvm.rootPasswordHash}\n";
    };

  # os-release(5) syntax. nixvm, or a person at the console, can compare it with the declared machine.
  releaseFile =
    config: values:
    let
      orEmpty = value: if value == null then "" else value;
    in
    ''
      MACHINE="${orEmpty values.nixvm.machine}"
      PROFILE="${config.nixvm.profile}"
      GENERATION="${toString values.nixvm.generation}"
      DIGEST="${orEmpty values.nixvm.digest}"
      NIXPKGS_REVISION="${config.nixvm.nixpkgsRevision}"
    '';

  # The machine's names in /etc/hosts, as NixOS orders them.
  ownNames =
    config: values:
    let
      inherit (values.networking) hostName;
      inherit (config.networking) domain;
    in
    lib.optional (hostName != "" && domain != null) "${hostName}.${domain}" ++ lib.optional (hostName != "") hostName;

  # Decides whether two builds are the same system, so that a comment restarts no machine. The number, the digest and the
  # revision of nixpkgs do not count, because they only say where a build comes from.
  fingerprintOf =
    config: values:
    builtins.hashString "sha256" (
      builtins.unsafeDiscardStringContext (
        builtins.toJSON {
          inherit (values.nixvm) machine;
          inherit (config.nixvm) profile;
          inherit (config.nixvm.image) layout;
          toplevel = "${config.system.build.toplevel}";
          # The base system's toplevel need not hold these.
          kernel = kernelOf config;
          initrd = initrdOf config;
          params = toString config.boot.kernelParams;
          skeleton = "${config.nixvm.image.rootSkeleton}";
          files = machineFiles values;
          hosts = [ "${config.nixvm.image.hosts}" ] ++ ownNames config values;
        }
      )
    );

  imageData =
    { base, config }:
    {
      format = 2;
      inherit (config.nixvm) nixpkgsRevision notCarriedOut profile;
      inherit (config.nixvm.image) layout;
      inherit system;
      base = baseName base;
      kernel = config.boot.kernelPackages.kernel.version;
    };

  # A folder with disk.qcow2, the base.qcow2 below it, image.json and closure.json. The disk and the texts are in an output of
  # their own, which keeps nothing alive; the folder keeps the base.
  machineFolder =
    {
      name,
      config,
      values,
      shares,
      base,
      baseStore,
      closure,
    }:
    pkgs.runCommand "nixvm-${name}"
      (
        imageAttrs
        // {
          outputs = [
            "out"
            "image"
          ];
          unsafeDiscardReferences.image = true;
          inherit base closure;
          layout = "${base}/layout";
          backing = baseName base;
          files = machineFiles values // {
            nixvm-release = releaseFile config values;
          };
          hosts = "${config.nixvm.image.hosts}";
          names = ownNames config values;
          # Text only: the image is complete without the closure that it was made from.
          toplevel = builtins.unsafeDiscardStringContext "${config.system.build.toplevel}";
          json = builtins.toJSON (
            imageData { inherit base config; }
            // {
              machine = name;
              fingerprint = fingerprintOf config values;
              toplevel = builtins.unsafeDiscardStringContext "${config.system.build.toplevel}";
            }
          );
        }
        // lib.optionalAttrs (!shares) {
          inherit baseStore;
          store = closureOf config;
          skeleton = "${config.nixvm.image.rootSkeleton}";
        }
      )
      ''
        ${
          if shares then
            "mkdir -p root/store"
          else
            ''
              ${copyPaths}
              copy_paths root/store "$store" "$baseStore"
            ''
        }
        mkdir -p root/machine/{authorized_keys,nftables.d}
        for file in "''${!files[@]}"; do printf %s "''${files[$file]}" >"root/machine/$file"; done
        cp --no-preserve=mode "$hosts" root/machine/hosts
        if ((''${#names[@]})); then echo "127.0.0.2 ''${names[*]}" >>root/machine/hosts; fi
        if [ -e root/machine/root_password_hash ]; then chmod 0400 root/machine/root_password_hash; fi
        ln -s "$toplevel" root/system

        mkdir $out $image
        bash ${./disk.sh} thin $image/disk.qcow2 "$layout" root "$backing"
        printf %s "$json" >$image/image.json
        ln -s $image/{disk.qcow2,image.json} $base/base.qcow2 $out
        ln -s $closure $out/closure.json
      '';

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

  # Made once for a profile, however many machines it has.
  ofProfiles = lib.mapAttrs (name: config: {
    base = baseImage {
      inherit name config;
      store = closureOf config;
    };
    store = closureOf config;
    closure = closureJson config;
  }) profiles;

  # The parts that all machines of a profile share, and that no machine can change.
  differences = import ./differences.nix { inherit lib; };
in
{
  # A folder with base.qcow2 and image.json.
  profile =
    name:
    let
      config = profiles.${name};
      inherit (ofProfiles.${name}) base;
    in
    pkgs.linkFarm "nixvm-profile-${name}" [
      {
        name = "base.qcow2";
        path = "${base}/base.qcow2";
      }
      {
        name = "image.json";
        path = pkgs.writeText "image.json" (builtins.toJSON (imageData { inherit base config; }));
      }
    ];

  # A machine as evaluations.nix returns it, and its profile's name.
  machine =
    name:
    {
      config,
      values,
      shares,
      profileName,
    }:
    let
      ofProfile = ofProfiles.${profileName};
      whole = config.nixvm.image.layout == "whole";
      changed = if shares then [ ] else differences config profiles.${profileName};
      base =
        if whole then
          baseImage {
            name = "of-${name}";
            inherit config;
            store = "/dev/null";
          }
        else
          ofProfile.base;
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
      machineFolder {
        inherit
          name
          config
          values
          base
          ;
        # The delta holds the whole system if the base only boots.
        shares = shares && !whole;
        baseStore = if whole then "/dev/null" else ofProfile.store;
        closure = if shares then ofProfile.closure else closureJson config;
      };
}
