# A workspace as a flake: `lib.mkWorkspace` returns the flake's outputs.
#
# A machine is a folder of the `machines` input, made by nixvm:
#   NAME/default.nix   the rendered module
#   NAME/extra.nix     the user's own module, where there is one
#   NAME/profile       the profile's name
# Nix evaluates lazily: building vm-web evaluates its profile and reads web's own files, and no other machine's. Further machines
# of the profile cost milliseconds, unless they have an extra.nix (evaluations.nix).
{ nixpkgs }:
{
  # Folder of the rendered machines.
  machines,
  # Folder of the workspace's own profiles, in addition to nixvm's. Of two with the same name, the workspace's wins.
  profiles ? null,
  # Names of the non-free packages that are allowed.
  unfree ? [ "claude-code" ],
  systems ? [
    "x86_64-linux"
    "aarch64-linux"
  ],
}:
let
  inherit (nixpkgs) lib;

  eachSystem = lib.genAttrs systems;

  # Once for all machines: instantiating nixpkgs costs as much as evaluating a small system.
  pkgsFor = eachSystem (
    system:
    import nixpkgs {
      inherit system;
      config.allowUnfreePredicate = package: lib.elem (lib.getName package) unfree;
    }
  );

  profilesIn =
    dir:
    lib.mapAttrs' (file: _: lib.nameValuePair (lib.removeSuffix ".nix" file) (dir + "/${file}")) (
      lib.filterAttrs (file: type: type != "directory" && lib.hasSuffix ".nix" file) (builtins.readDir dir)
    );
  profileFiles = profilesIn ../profiles // lib.optionalAttrs (profiles != null) (profilesIn profiles);

  machineNames = lib.filter (name: builtins.pathExists (machines + "/${name}/profile")) (
    lib.attrNames (lib.filterAttrs (_: type: type == "directory") (builtins.readDir machines))
  );

  profileOf =
    name:
    let
      profile = lib.removeSuffix "\n" (builtins.readFile (machines + "/${name}/profile"));
    in
    if profileFiles ? ${profile} then
      profile
    else
      throw ''
        nixvm: machine `${name}` asks for profile `${profile}`, which does not exist.
        The profiles are: ${lib.concatStringsSep ", " (lib.attrNames profileFiles)}'';

  # `profiles` lets a profile import another by name wherever its file is: imports = [ profiles.core ];
  evaluate =
    system: modules:
    nixpkgs.lib.nixosSystem {
      specialArgs.profiles = profileFiles;
      modules = [
        ../modules
        {
          nixpkgs.pkgs = pkgsFor.${system};
          nixvm.nixpkgsRevision = nixpkgs.rev or nixpkgs.narHash or "unknown";
        }
      ]
      ++ modules;
    };

  evaluations = eachSystem (
    system:
    import ./evaluations.nix {
      inherit lib profileFiles;
      evaluate = evaluate system;
    }
  );
  evaluatedProfiles = eachSystem (
    system: lib.mapAttrs (name: _: evaluations.${system}.profile name) profileFiles
  );

  nixvm = eachSystem (system: pkgsFor.${system}.callPackage ./package.nix { });

  images = eachSystem (
    system:
    import ./image.nix {
      inherit lib;
      pkgs = pkgsFor.${system};
      profiles = lib.mapAttrs (_: profile: profile.config) evaluatedProfiles.${system};
    }
  );

  evaluatedMachines = eachSystem (
    system:
    lib.genAttrs machineNames (
      name:
      let
        profileName = profileOf name;
        profile = evaluatedProfiles.${system}.${profileName};
      in
      evaluations.${system}.machine profile profileName (machines + "/${name}") // { inherit profileName; }
    )
  );
  machineImages = eachSystem (
    system: lib.mapAttrs images.${system}.machine evaluatedMachines.${system}
  );

  # The images of all machines that share their profile's evaluation. Building a hundred takes as long as building a few; the
  # others would need a hundred evaluations in one process.
  sharingImages =
    system:
    pkgsFor.${system}.linkFarm "nixvm-machines" (
      lib.mapAttrsToList
        (name: _: {
          inherit name;
          path = machineImages.${system}.${name};
        })
        (lib.filterAttrs (_: machine: machine.shares) evaluatedMachines.${system})
    );

  prefixed = prefix: lib.mapAttrs' (name: lib.nameValuePair "${prefix}-${name}");

  verbs = [
    "apply"
    "backup"
    "backups"
    "build"
    "build-all"
    "clean"
    "clone"
    "completions"
    "console"
    "create"
    "delete-snapshot"
    "destroy"
    "diff"
    "doctor"
    "export"
    "force-stop"
    "generations"
    "list"
    "list-machines"
    "list-profiles"
    "logs"
    "network-config"
    "passwd"
    "purge"
    "reboot"
    "recreate"
    "rename"
    "restore-backup"
    "restore-snapshot"
    "rollback"
    "set"
    "shell"
    "snapshot"
    "snapshots"
    "ssh"
    "start"
    "status"
    "stop"
    "update"
    "upgrade"
    "verify-backup"
    "wait"
  ];

  app = program: {
    type = "app";
    inherit program;
    meta.description = "Build and manage immutable NixOS virtual machines";
  };
in
{
  packages = eachSystem (
    system:
    {
      nixvm = nixvm.${system};
      default = nixvm.${system};
      machines = sharingImages system;
    }
    // prefixed "profile" (lib.mapAttrs (name: _: images.${system}.profile name) profileFiles)
    // prefixed "vm" machineImages.${system}
  );

  apps = eachSystem (
    system:
    let
      binary = "${nixvm.${system}}/bin/nixvm";
      run = verb: pkgsFor.${system}.writeShellScript "nixvm-${verb}" ''exec ${binary} ${verb} "$@"'';
    in
    lib.genAttrs verbs (verb: app "${run verb}")
    // {
      nixvm = app binary;
      default = app binary;
    }
  );

  devShells = eachSystem (system: {
    default = import ./shell.nix {
      inherit lib;
      pkgs = pkgsFor.${system};
      nixvm = nixvm.${system};
    };
  });

  # Each check is a text with the path of a derivation: a profile that does not evaluate fails here in seconds, without
  # a build.
  checks = eachSystem (
    system:
    prefixed "profile" (
      lib.mapAttrs (
        name: profile:
        pkgsFor.${system}.writeText "profile-${name}-evaluates" (
          builtins.unsafeDiscardStringContext profile.config.system.build.toplevel.drvPath
        )
      ) evaluatedProfiles.${system}
    )
  );

  formatter = eachSystem (system: pkgsFor.${system}.nixfmt-tree);
}
