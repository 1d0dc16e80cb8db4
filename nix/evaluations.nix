# One evaluation for each profile, which its machines share, and the values of single machines.
#
# Reading an option that differs between machines throws in a shared evaluation (modules/per-machine.nix). If that happens, the
# profile's machines are evaluated separately, which takes seconds and hundreds of megabytes for each, but is always right.
{
  lib,
  # From a list of modules to an evaluated system.
  evaluate,
  # Files of profiles, by name.
  profileFiles,
}:
let
  machineOptions = import ../modules/per-machine.nix {
    inherit lib;
    config = { };
  };
  perMachine = removeAttrs machineOptions.options.nixvm [
    "isShared"
    "perMachine"
  ];

  # What the profile itself defines of options that differ between machines: a key for all of them, for example.
  definitionsIn =
    options:
    let
      from =
        group:
        lib.mapAttrs (
          name: _:
          let
            option = group.${name};
          in
          # 1500 is the priority of an option's default.
          lib.mkIf (option.highestPrio < 1500) (
            lib.mkMerge (
              map (definition: lib.mkOverride option.highestPrio definition.value) option.definitionsWithLocations
            )
          )
        );
    in
    {
      nixvm = from options.nixvm perMachine;
      networking = from options.networking { hostName = null; };
    };

  # Evaluates everything that machines share: the system, and what image.nix makes their disks of.
  evaluatesWithoutMachine =
    { config, options, ... }:
    (builtins.tryEval (
      builtins.deepSeq [
        config.system.build.toplevel.drvPath
        config.system.build.initialRamdisk.drvPath
        config.boot.kernelParams
        config.nixvm.image.rootSkeleton.drvPath
        config.nixvm.image.hosts.drvPath
        config.networking.domain
        (definitionsIn options)
      ] true
    )).success;
in
{
  # The shared evaluation of a profile.
  profile =
    name:
    let
      file = profileFiles.${name};
      shared = evaluate [
        file
        {
          nixvm.profile = name;
          nixvm.isShared = true;
        }
      ];
      isShared = evaluatesWithoutMachine shared;
      evaluated =
        if isShared then
          shared
        else
          evaluate [
            file
            { nixvm.profile = name; }
          ];
    in
    {
      inherit isShared;
      inherit (evaluated) config;
      definitions = definitionsIn evaluated.options;
    };

  # A machine of `profile`, whose rendered module is in `folder`: its `config`, which is that of the profile where it `shares`, and
  # its `values`, a set with the options that differ between machines.
  machine =
    profile: profileName: folder:
    let
      extra = folder + "/extra.nix";
      shares = profile.isShared && !builtins.pathExists extra;
      own = evaluate (
        [
          profileFiles.${profileName}
          folder
        ]
        ++ lib.optional (builtins.pathExists extra) extra
      );
      # NixOS's types without a system around them, which takes a millisecond.
      small = lib.evalModules {
        modules = [
          ../modules/options.nix
          ../modules/per-machine.nix
          {
            options.networking.hostName = lib.mkOption { type = lib.types.str; };
            config = profile.definitions;
          }
          folder
        ];
      };
    in
    {
      inherit shares;
      config = if shares then profile.config else own.config;
      values = if shares then small.config else own.config;
    };
}
