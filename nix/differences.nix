# Lists what a machine changes of the parts that all machines of its profile boot from: kernel, initrd, kernel parameters and the
# tree of `/`. There is a sentence for each, with the names of the options, parameters and files that differ.
#
# Four strings show whether the parts are equal. Everything else is evaluated only if two strings differ, and with `or`, because
# the package set may lack an option: the offline base's initrd has no files and no units of systemd.
{ lib }:
let
  inherit (lib)
    attrNames
    concatStringsSep
    filter
    filterAttrs
    mapAttrs
    optional
    optionals
    subtractLists
    ;
  plain = value: builtins.unsafeDiscardStringContext (toString value);
  # "/nix/store/HASH-NAME/…" -> "NAME/…"
  withoutHash = path: builtins.substring (builtins.stringLength builtins.storeDir + 34) (-1) path;

  # The option behind a name, from a table by prefixes of names; "" if the name itself says it.
  optionIn =
    table: name:
    let
      beginning = lib.findFirst (beginning: lib.hasPrefix beginning name) null (attrNames table);
    in
    if beginning == null then "" else table.${beginning};

  parameterOptions = {
    "apparmor=" = "security.apparmor.enable";
    "audit" = "security.audit";
    "crashkernel=" = "boot.crashDump";
    "l1tf=" = "security.virtualisation.flushL1DataCache";
    "loglevel=" = "boot.consoleLogLevel";
    "lsm=" = "security.lsm";
    "net.ifnames=" = "networking.usePredictableInterfaceNames";
    "nohibernate" = "security.protectKernelImage";
    "nosmt" = "security.allowSimultaneousMultithreading";
    "pti=" = "security.forcePageTableIsolation";
    "resume=" = "boot.resumeDevice";
    "root=" = "boot.initrd.systemd.root";
    "vt.default_" = "console.colors";
    "zswap." = "boot.zswap";
  };
  fileOptions = {
    "/etc/crypttab" = "boot.initrd.luks.devices";
    "/etc/group" = "boot.initrd.systemd.groups";
    "/etc/hostid" = "networking.hostId, with ZFS";
    "/etc/kbd" = "console.earlySetup, console.packages";
    "/etc/modprobe.d/nixos.conf" = "boot.blacklistedKernelModules or boot.extraModprobeConfig, of a module that the initrd loads";
    "/etc/modules-load.d/" = "boot.initrd.kernelModules";
    "/etc/os-release" = "system.nixos";
    "/etc/initrd-release" = "system.nixos";
    "/etc/passwd" = "boot.initrd.systemd.users";
    "/etc/plymouth" = "boot.plymouth";
    "/etc/shadow" = "boot.initrd.systemd.emergencyAccess";
    "/etc/systemd/network" = "boot.initrd.systemd.network";
    "/etc/systemd/system.conf" = "boot.initrd.systemd.settings.Manager, boot.initrd.systemd.managerEnvironment";
    "/etc/tmpfiles.d" = "boot.initrd.systemd.tmpfiles";
    "/etc/udev" = "boot.initrd.services.udev";
    "/etc/vconsole.conf" = "console";
    "/bin" = "boot.initrd.systemd.initrdBin, boot.initrd.systemd.extraBin";
    "/sbin" = "boot.initrd.systemd.initrdBin, boot.initrd.systemd.extraBin";
    "/usr/" = "boot.initrd.systemd.initrdBin, boot.initrd.systemd.extraBin";
  };

  # Compares two sets of one kind by name: [ "adds …" "removes …" "changes …" ], with each option named once.
  sets =
    kind: optionOf: config: profile:
    let
      group =
        option: names:
        concatStringsSep ", " (map (name: "`${name}`") names) + lib.optionalString (option != "") " (${option})";
      told =
        verb: names:
        optional (names != [ ]) (
          "${verb} ${kind}" + concatStringsSep ", " (lib.attrValues (mapAttrs group (lib.groupBy optionOf names)))
        );
      both = lib.intersectLists (attrNames config) (attrNames profile);
    in
    told "adds" (subtractLists (attrNames profile) (attrNames config))
    ++ told "removes" (subtractLists (attrNames config) (attrNames profile))
    ++ told "changes" (filter (name: config.${name} != profile.${name}) both);
  lists =
    kind: optionOf: config: profile:
    sets kind optionOf (lib.genAttrs config (_: null)) (lib.genAttrs profile (_: null));

  kernelOf = config: "${config.boot.kernelPackages.kernel}/${config.system.boot.loader.kernelFile}";
  kernel =
    config: profile:
    let
      version = c: c.boot.kernelPackages.kernel.version;
    in
    if version config != version profile then
      [ "${version config} instead of ${version profile}" ]
    else
      [ "${version config} as in the profile, but built differently (boot.kernelPatches, or an overlay)" ];

  parameters =
    config: profile:
    let
      named = lists "" (optionIn parameterOptions) config.boot.kernelParams profile.boot.kernelParams;
    in
    if named != [ ] then named else [ "the same ones, in another order or number" ];

  # A machine uses its profile's `/`, where an additional folder does no harm. So only a missing folder counts.
  newFolders = config: profile: subtractLists profile.nixvm.image.folders config.nixvm.image.folders;
  root =
    config: profile:
    let
      ldso = c: plain (c.environment.ldso or null);
    in
    optional (ldso config != ldso profile) "the dynamic loader's path (environment.ldso, which programs.nix-ld.enable sets)"
    ++ map (path: "adds the mount point `${path}` (fileSystems.\"${path}\" or nixvm.persist)") (newFolders config profile);

  # NixOS always mounts these in the initrd (nixos/lib/utils.nix, pathsNeededForBoot).
  neededForBoot = [
    "/"
    "/etc"
    "/nix"
    "/nix/store"
    "/usr"
    "/var"
    "/var/lib"
    "/var/lib/nixos"
    "/var/log"
  ];
  bootMounts =
    config:
    mapAttrs
      (_: fs: {
        inherit (fs) fsType options;
        device = plain (fs.device or "");
      })
      (filterAttrs (path: fs: fs.neededForBoot || lib.elem path neededForBoot) config.fileSystems);

  initrd =
    config: profile:
    let
      both = read: f: f (read config) (read profile);
      differs = read: both read (a: b: a != b);
      systemd = c: c.boot.initrd.systemd or { };

      mounts = both bootMounts (
        sets "the file system " (path: "fileSystems.\"${path}\", needed for boot")
      );
      modules = both (c: c.boot.initrd.availableKernelModules ++ c.boot.initrd.kernelModules) (
        lists "the kernel modules " (_: "boot.initrd.availableKernelModules, boot.initrd.kernelModules")
      );
      loaded = both (c: c.boot.initrd.kernelModules) (
        lists "the always loaded modules " (_: "boot.initrd.kernelModules")
      );
      units = both (c: mapAttrs (_: unit: plain (unit.unit or "")) (systemd c).units or { }) (
        sets "the units " (_: "boot.initrd.systemd")
      );
      # Files whose content other sentences name.
      toldElsewhere = [
        "/etc/systemd/system"
        "/lib"
      ]
      ++ optional (mounts != [ ]) "/etc/systemd/system.conf" # the path of the initrd's fstab
      ++ optional (modules ++ loaded != [ ]) "/etc/modules-load.d/nixos.conf";
      files = both (
        c:
        mapAttrs (_: file: plain (file.source or "")) (
          filterAttrs (path: file: file.enable or true && !lib.elem path toldElsewhere) (
            (systemd c).contents or { }
          )
        )
      ) (sets "" (optionIn fileOptions));
      # modules/sharing.nix takes the others out of the initrd.
      variables =
        c: filterAttrs (_: value: !lib.hasPrefix builtins.storeDir (toString value)) c.systemd.globalEnvironment;
      others = lib.concatMap ({ read, is }: optional (differs read) "changes ${is}") [
        {
          read = c: if c ? systemd.globalEnvironment then variables c else { };
          is = "the variables of every unit (systemd.globalEnvironment)";
        }
        {
          read = c: plain (c.hardware.firmware or "");
          is = "the firmware of kernel modules (hardware.firmware, which hardware.enableRedistributableFirmware sets)";
        }
        {
          read = c: if differs kernelOf then "" else plain (c.system.modulesTree or "");
          is = "the kernel's modules (boot.extraModulePackages)";
        }
        {
          read = c: map plain (c.boot.initrd.prepend or [ ]);
          is = "the archives before the initrd (boot.initrd.prepend, which the CPU's microcode sets)";
        }
        {
          read = c: [
            (plain (c.boot.initrd.compressor or ""))
            (c.boot.initrd.compressorArgs or null)
          ];
          is = "its compression (boot.initrd.compressor)";
        }
      ];
      packages = both (
        c:
        map (entry: withoutHash (plain entry.source)) (
          filter (entry: entry.enable) ((systemd c).storePaths or [ ])
        )
      ) (lists "the store paths " (_: "boot.initrd.systemd.storePaths"));

      named = mounts ++ modules ++ optionals (modules == [ ]) loaded ++ units ++ files ++ others;
    in
    if named != [ ] then
      named
    else if differs kernelOf then
      [ "with the kernel's modules" ]
    else
      packages;

  shared = [
    {
      what = "the kernel (boot.kernelPackages)";
      of = kernelOf;
      told = kernel;
    }
    {
      what = "the initrd (boot.initrd)";
      of = config: "${config.system.build.initialRamdisk}/${config.system.boot.loader.initrdFile}";
      told = initrd;
    }
    {
      what = "the kernel parameters (boot.kernelParams)";
      of = config: toString config.boot.kernelParams;
      told = parameters;
    }
    {
      what = "the tree of /";
      of = config: builtins.toJSON config.nixvm.image.links;
      isSame = config: profile: links config == links profile && newFolders config profile == [ ];
      told = root;
    }
  ];
  links = config: config.nixvm.image.links;
in
config: profile:
map (
  {
    what,
    of,
    told,
    ...
  }:
  let
    names = told config profile;
    paths = [ "from ${plain (of profile)} to ${plain (of config)}" ];
  in
  "${what}: ${concatStringsSep "; " (if names == [ ] then paths else names)}"
) (
  filter (
    {
      of,
      isSame ? (a: b: of a == of b),
      ...
    }:
    !isSame config profile
  ) shared
)
