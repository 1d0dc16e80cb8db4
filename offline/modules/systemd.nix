# Units: the modules' units become /etc/systemd/system, beside the units of Debian's packages.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.systemd;
  unitOptions = import ./unit-options.nix { inherit lib pkgs; };
  inherit (unitOptions) kinds;

  # [ { file; text; dropin; enable; links; } ]
  units = lib.concatMap (
    kind: lib.mapAttrsToList (unitOptions.toUnit cfg.globalEnvironment kind) cfg.${kind.option}
  ) kinds;

  # A guest whose operating system is an image and whose disks are known does not need these; each would cost time at boot.
  masked = [
    "apt-daily-upgrade.timer"
    "apt-daily.timer"
    "dev-hugepages.mount"
    "dpkg-db-backup.timer"
    "e2scrub_all.timer"
    "e2scrub_reap.service"
    "getty-static.service"
    "getty@tty1.service"
    "ldconfig.service"
    "modprobe@drm.service"
    "proc-sys-fs-binfmt_misc.automount"
    "sys-fs-fuse-connections.mount"
    "sys-kernel-config.mount"
    "sys-kernel-debug.mount"
    "sys-kernel-tracing.mount"
    "systemd-binfmt.service"
    "systemd-creds.socket"
    "systemd-firstboot.service"
    "systemd-hibernate-clear.service"
    "systemd-hwdb-update.service"
    "systemd-initctl.socket"
    "systemd-journal-catalog-update.service"
    "systemd-machine-id-commit.service"
    "systemd-networkd-persistent-storage.service"
    "systemd-pcrextend.socket"
    "systemd-pcrlock.socket"
    "systemd-pcrmachine.service"
    "systemd-pcrphase-sysinit.service"
    "systemd-pcrphase.service"
    "systemd-random-seed.service" # the host's virtio-rng is there before it
    "systemd-remount-fs.service" # the initial ramdisk mounts with the final options
    "systemd-sysext.socket"
    "systemd-sysusers.service"
    "systemd-tmpfiles-setup-dev-early.service"
    "systemd-tpm2-setup-early.service"
    "systemd-tpm2-setup.service"
    "systemd-udev-load-credentials.service"
    "systemd-update-done.service"
  ];

  # Each generator is a process before the first unit starts. Kept are those of fstab and of the serial login.
  maskedGenerators = [
    "systemd-debug-generator"
    "systemd-gpt-auto-generator"
    "systemd-hibernate-resume-generator"
    "systemd-rc-local-generator"
    "systemd-run-generator"
    "systemd-ssh-generator"
    "systemd-system-update-generator"
    "systemd-sysv-generator"
    "systemd-tpm2-generator"
  ];

  # The rules of `systemd.tmpfiles.settings`: settings.FILE.PATH.TYPE.{mode,user,group,age,argument}
  settingsRules = lib.mapAttrs (
    _: paths:
    lib.concatLines (
      lib.concatLists (
        lib.mapAttrsToList (
          path: rules:
          lib.mapAttrsToList (
            type: rule:
            lib.concatStringsSep " " [
              (rule.type or type)
              path
              (rule.mode or "-")
              (rule.user or "-")
              (rule.group or "-")
              (rule.age or "-")
              (rule.argument or "")
            ]
          ) rules
        ) paths
      )
    )
  ) cfg.tmpfiles.settings;

  section = name: set: lib.optionalString (set != { }) (unitOptions.section name set);
in
{
  options = {
    systemd = {
      globalEnvironment = mkOption {
        type = types.attrsOf (types.nullOr types.str);
        default = { };
        description = "Variables of every service that modules define.";
      };
      package = mkOption {
        type = types.package;
        # Not `pkgs.systemd`, which has the boot loader with it.
        default = pkgs.runCommand "systemd" { } "mkdir $out; ln -s /usr/bin /usr/lib $out";
        description = "Where systemd's programs are: Debian's, which every guest has.";
      };
      packages = mkOption {
        type = types.listOf types.package;
        default = [ ];
        description = "Packages whose units are there; those of Debian's packages always are.";
      };
      maskedUnits = mkOption {
        type = types.listOf types.str;
        default = [ ];
        internal = true;
        description = "Units of Debian's packages that must not run.";
      };
      enabledUnits = mkOption {
        type = types.attrsOf (types.listOf types.str);
        default = { };
        internal = true;
        example = {
          "multi-user.target" = [ "docker.service" ];
        };
        description = "Units of Debian's packages to start, by the target that wants them.";
      };
      enableEmergencyMode = mkOption {
        type = types.bool;
        default = true;
        description = "Whether a boot that fails ends in a shell on the console, for who knows root's password.";
      };
      settings.Manager = mkOption {
        type = types.attrs;
        default = { };
        description = "Settings of systemd-system.conf(5).";
      };
      coredump.enable = mkOption {
        type = types.bool;
        default = false;
        description = "Off: no core is kept.";
      };
      tmpfiles = {
        rules = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Lines of tmpfiles.d(5).";
        };
        settings = mkOption {
          type = types.attrsOf (types.attrsOf (types.attrsOf types.attrs));
          default = { };
          description = "Rules of tmpfiles.d(5) by file, path and type.";
        };
      };
    }
    // lib.listToAttrs (map (kind: lib.nameValuePair kind.option kind.declaration) kinds);
    system.build.units = mkOption {
      type = types.package;
      internal = true;
      description = "The folder /etc/systemd/system.";
    };
  };

  config = {
    # What the services call has to be in the guest.
    system.debianPackages = lib.concatMap (
      unit:
      lib.concatMap (package: package.debs or [ ]) unit.path
      ++ pkgs.debian.usedIn (
        lib.concatStrings [
          unit.script
          unit.preStart
          unit.postStart
          unit.reload
          unit.preStop
          unit.postStop
        ]
      )
    ) (lib.attrValues cfg.services)
    ++ lib.concatMap (unit: pkgs.debian.usedIn unit.text) units;

    systemd.maskedUnits = lib.optionals (!cfg.enableEmergencyMode) [
      "emergency.service"
      "emergency.target"
    ];
    system.ignored = lib.optional cfg.coredump.enable "systemd.coredump.enable";

    system.build.units =
      let
        active = lib.filter (unit: unit.enable) units;
      in
      pkgs.runCommand "system-units"
        {
          __structuredAttrs = true;
          texts = lib.listToAttrs (map (unit: lib.nameValuePair unit.file unit.text) active);
          strategies = lib.listToAttrs (map (unit: lib.nameValuePair unit.file unit.strategy) active);
          masked = masked ++ cfg.maskedUnits ++ map (unit: unit.file) (lib.filter (unit: !unit.enable) units);
          # "TARGET.wants/UNIT" and aliases: where the link is -> what it leads to
          links = lib.listToAttrs (
            lib.concatMap (unit: map (link: lib.nameValuePair link unit.file) unit.links) active
            ++ lib.concatLists (
              lib.mapAttrsToList (target: map (unit: lib.nameValuePair "${target}.wants/${unit}" unit)) cfg.enabledUnits
            )
          );
          debianUnits = "${config.system.build.debian.tree}/usr/lib/systemd/system";
        }
        (builtins.readFile ./units.sh);

    # Devices that no rule and no unit of a guest is about are two thirds of all: 64 virtual consoles, ACPI's tree, the
    # kernel's work queues. Each costs a pass through all rules.
    systemd.services.systemd-udev-trigger = {
      overrideStrategy = "asDropin";
      serviceConfig.ExecStart = [
        ""
        "-udevadm trigger --type=all --action=add --prioritized-subsystem=block,net ${
          lib.concatMapStringsSep " " (subsystem: "--subsystem-nomatch=${subsystem}") [
            "acpi"
            "bdi"
            "tty"
            "vc"
            "workqueue"
          ]
        }"
        "-udevadm trigger --action=add --subsystem-match=tty --sysname-match=ttyS0 --sysname-match=ttyAMA0 --sysname-match=hvc0"
      ];
    };

    environment.etc = {
      "systemd/system".source = config.system.build.units;
      "systemd/system.conf".text = section "Manager" cfg.settings.Manager;
      "tmpfiles.d/00-nixos.conf".text = lib.concatLines cfg.tmpfiles.rules;
    }
    // lib.listToAttrs (
      map (name: lib.nameValuePair "systemd/system-generators/${name}" { source = "/dev/null"; }) maskedGenerators
    )
    // lib.mapAttrs' (name: text: lib.nameValuePair "tmpfiles.d/${name}.conf" { inherit text; }) settingsRules;
  };
}
