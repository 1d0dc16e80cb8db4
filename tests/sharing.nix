# Tests which changes in extra.nix let a machine share its profile's base image, and what the message names otherwise.
# `nix eval --impure --raw --file tests/sharing.nix --apply 'f: f { nixpkgs = "/some/nixpkgs"; }'` prints the number of tests, or
# the failed ones. On the offline base it leaves out tests that need NixOS's own options.
{
  # The path of a nixpkgs, or of the offline base.
  nixpkgs,
  profile ? "core",
}:
let
  inherit (import ./nixpkgs.nix nixpkgs) isNixos lib nixosSystem profileFiles;
  pkgs = import nixpkgs { system = builtins.currentSystem; };

  evaluate =
    modules:
    (nixosSystem {
      specialArgs.profiles = profileFiles;
      modules = [
        ../modules
        { nixpkgs.pkgs = pkgs; }
        profileFiles.${profile}
      ]
      ++ modules;
    }).config;
  differences = import ../nix/differences.nix { inherit lib; };
  profileConfig = evaluate [ ];

  # NAME = { extra = the module; } shares; with `names` it does not, and the message has these words.
  everywhere = {
    "modprobe.d: blacklist".extra.boot.blacklistedKernelModules = [ "pcspkr" ];
    "modprobe.d: lines".extra.boot.extraModprobeConfig = "options kvm nested=1";
    "kernel modules".extra.boot.kernelModules = [ "tun" ];
    "packages".extra.environment.systemPackages = [ pkgs.htop ];
    "sysctl".extra.boot.kernel.sysctl."vm.swappiness" = 10;
    "locale".extra.i18n.defaultLocale = "de_DE.UTF-8";
    "time zone".extra.time.timeZone = "Europe/Berlin";
    "a mount below /var".extra.fileSystems."/var/lib/data" = {
      device = "/var/data";
      fsType = "none";
      options = [ "bind" ];
    };
    "a bind mount at a folder that every image has".extra.fileSystems."/srv" = {
      device = "/var/srv";
      fsType = "none";
      options = [ "bind" ];
    };
    "a kept folder that every image has".extra.nixvm.persist = [ "/opt" ];
    "a kept folder below /etc".extra.nixvm.persist = [ "/etc/rancher" ];
    "a mount point of its own" = {
      extra.fileSystems."/data" = {
        device = "/dev/vdd";
        fsType = "ext4";
      };
      names = [
        "the tree of /"
        "adds the mount point `/data`"
      ];
    };
    "a kept folder of its own" = {
      extra.nixvm.persist = [ "/data/app" ];
      names = [ "adds the mount point `/data/app`" ];
    };
    "console log level" = {
      extra.boot.consoleLogLevel = 7;
      names = [
        "kernel parameters"
        "adds `loglevel=7` (boot.consoleLogLevel)"
        "removes `loglevel=4`"
      ];
    };
    "a kernel parameter" = {
      extra.boot.kernelParams = [ "quiet" ];
      names = [ "adds `quiet`" ];
    };
    "a module of the initrd" = {
      extra.boot.initrd.availableKernelModules = [ "btrfs" ];
      names = [
        "the initrd"
        "adds the kernel modules `btrfs`"
        "boot.initrd.availableKernelModules"
      ];
    };
    "a file system needed for boot" = {
      extra.fileSystems."/var/lib" = {
        device = "/dev/vdd";
        fsType = "ext4";
        neededForBoot = true;
      };
      names = [ "adds the file system `/var/lib`" ];
    };
  };
  onNixos = {
    "locale of the time".extra.i18n.extraLocaleSettings.LC_TIME = "de_DE.UTF-8";
    "keymap".extra.console.keyMap = "de";
    "keymap of a file".extra.console.keyMap = pkgs.writeText "map" "keycode 1 = Escape\n";
    "console packages".extra.console.packages = [ pkgs.terminus_font ];
    "nftables, which blacklists ip_tables".extra.networking.nftables.enable = true;
    "host id".extra.networking.hostId = "deadbeef";
    "a service".extra.services.nginx.enable = true;
    "modprobe.d: blacklist of a module that the initrd loads" = {
      extra.boot.blacklistedKernelModules = [ "virtio-balloon" ];
      names = [
        "/etc/modprobe.d/nixos.conf"
        "boot.blacklistedKernelModules"
      ];
    };
    "modprobe.d: options of a module that the initrd loads, on a second line" = {
      extra.boot.extraModprobeConfig = "options \\\n  loop max_loop=64";
      names = [ "boot.extraModprobeConfig" ];
    };
    "console in the initrd" = {
      extra.console.earlySetup = true;
      names = [
        "/etc/vconsole.conf"
        "console.earlySetup"
      ];
    };
    "keymap with a password to type in the initrd" = {
      extra.console.keyMap = "de";
      extra.boot.initrd.systemd.emergencyAccess = true;
      names = [
        "/etc/vconsole.conf"
        "boot.initrd.systemd.emergencyAccess"
      ];
    };
    "firmware" = {
      extra.hardware.enableRedistributableFirmware = true;
      names = [ "hardware.enableRedistributableFirmware" ];
    };
    "AppArmor" = {
      extra.security.apparmor.enable = true;
      names = [
        "adds"
        "`apparmor=1` (security.apparmor.enable)"
      ];
    };
    "nix-ld" = {
      extra.programs.nix-ld.enable = true;
      names = [
        "the tree of /"
        "programs.nix-ld.enable"
      ];
    };
    "another kernel" = {
      extra.boot.kernelPackages = pkgs.linuxPackages_latest;
      names = [
        "the kernel (boot.kernelPackages)"
        "${pkgs.linuxPackages_latest.kernel.version} instead of ${pkgs.linuxPackages.kernel.version}"
      ];
    };
    "microcode" = {
      extra.hardware.cpu.intel.updateMicrocode = true;
      names = [ "boot.initrd.prepend" ];
    };
    "a unit of the initrd" = {
      extra.boot.initrd.systemd.services.mine.script = "true";
      names = [ "adds the units `mine.service`" ];
    };
    "interface names" = {
      extra.networking.usePredictableInterfaceNames = false;
      names = [ "`net.ifnames=0` (networking.usePredictableInterfaceNames)" ];
    };
  };

  tried = everywhere // lib.optionalAttrs isNixos onNixos;
  outcome =
    name:
    {
      extra,
      names ? [ ],
    }:
    let
      told = lib.concatStringsSep "\n" (differences (evaluate [ extra ]) profileConfig);
      missing = lib.filter (word: !lib.hasInfix word told) names;
    in
    if names == [ ] && told != "" then
      [ "${name}: does not share: ${told}" ]
    else if names != [ ] && told == "" then
      [ "${name}: shares" ]
    else
      map (word: "${name}: does not name ${word}: ${told}") missing;
  failed = lib.concatLists (lib.mapAttrsToList outcome tried);
in
if failed == [ ] then
  "${toString (lib.length (lib.attrNames tried))} machines share, or are told what they change\n"
else
  throw "not as expected:\n${lib.concatStringsSep "\n" failed}"
