# The initial ramdisk: a script, busybox, e2fsck and the kernel modules to mount the file systems that the boot needs. It
# contains nothing of a single machine, so all machines of a profile share it; it reads the machine's parts from the toplevel.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (pkgs.guest) runTool tools;
  inherit (config.boot.kernelPackages.kernel) modules modDirVersion;

  mounted = lib.filter (fs: fs.neededForBoot && fs.enable) (lib.attrValues config.fileSystems);
  wanted = lib.unique (
    config.boot.initrd.kernelModules
    ++ config.boot.initrd.availableKernelModules
    ++ map (fs: fs.fsType) (lib.filter (fs: !lib.elem fs.fsType [ "none" "auto" "tmpfs" ]) mounted)
    # vfat uses these to read names, unless a mount says otherwise.
    ++ lib.optionals (lib.any (fs: fs.fsType == "vfat") mounted) [
      "nls_cp437"
      "nls_ascii"
      "nls_utf8"
      "nls_iso8859-1"
    ]
  );
in
{
  options.system.build.initialRamdisk = lib.mkOption {
    type = lib.types.package;
    internal = true;
    description = "The initial ramdisk.";
  };

  config.system.build.initialRamdisk = pkgs.runCommand "initrd" {
    inherit wanted;
    mounts = config.system.build.initrdMounts;
    passAsFile = [ "mounts" ];
  } ''
    mkdir -p root/{bin,dev,proc,sys,run,sysroot,modules,etc}
    cp ${tools}/usr/bin/busybox root/bin/
    cp ${tools}/usr/sbin/e2fsck.static root/bin/e2fsck
    for applet in cat chroot cut findfs grep insmod ln losetup mkdir mount poweroff readlink sed sh sleep switch_root umount; do
      ln -s busybox root/bin/$applet
    done
    cp ${./initrd/init.sh} root/init
    cp "$mountsPath" root/mounts
    chmod 0755 root/init root/bin/*

    # Each module after its dependencies, unpacked: the whole ramdisk is compressed once, with a faster method.
    for module in $wanted; do
      ${runTool "kmod" "modprobe"} -d ${modules} -S ${modDirVersion} --show-depends "$module" ||
        echo "initrd: the kernel has no module $module" >&2
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
      name=$(basename "$file")
      case $name in
      *.xz) xz -dc "$file" > "root/modules/''${name%.xz}" ;;
      *.zst) zstd -dcq "$file" > "root/modules/''${name%.zst}" ;;
      *) cp "$file" "root/modules/$name" ;;
      esac
      name=''${name%.xz}
      echo "''${name%.zst}" >> root/modules/order
    done

    find root -exec touch -h -d @1 {} +
    mkdir $out
    cd root
    find . | LC_ALL=C sort | ${runTool "cpio" "cpio"} --quiet --reproducible --owner=+0:+0 -H newc -o | zstd -q -T1 -9 > $out/initrd
  '';
}
