# The contents of a guest: Debian's files, in the state that their maintainer scripts would leave, and its kernel.
{ lib, pkgs, data, debian }:
let
  kernelDeb = lib.head (lib.filter (name: lib.hasPrefix "linux-image-" name && data.debs ? ${name} && builtins.match "linux-image-[0-9].*" name != null) (
    debian.closure (debian.named "@kernel")
  ));
  release = lib.removePrefix "linux-image-" kernelDeb;

  # Debian's programs for a builder, by their own loader and libraries: where builders run the host's programs, it may lack them.
  tools = debian.unpack "debian-tools" (debian.closure (debian.named "@initrd"));
  loader = if data.system == "x86_64-linux" then "lib64/ld-linux-x86-64.so.2" else "lib/ld-linux-aarch64.so.1";
  runTool = program: as: "${tools}/usr/${loader} --library-path ${tools}/usr/lib/${debian.multiarch} --argv0 ${as} ${tools}/usr/bin/${program}";

  kernelTree = debian.unpack "kernel-tree-${release}" [ kernelDeb ];
in
rec {
  inherit tools runTool;

  kernel = pkgs.runCommand "linux-${release}"
    {
      passthru = {
        inherit modules;
        pname = "linux";
        version = lib.head (lib.splitString "+" release);
        modDirVersion = release;
      };
    }
    ''
      mkdir $out
      cp ${kernelTree}/boot/vmlinuz-${release} $out/bzImage
      cp ${kernelTree}/boot/config-${release} $out/config
    '';

  # lib/modules, with the indices that depmod makes when the package is installed.
  modules = pkgs.runCommand "linux-modules-${release}" { } ''
    mkdir -p $out/lib
    cp -r --no-preserve=mode ${kernelTree}/usr/lib/modules $out/lib/
    ${runTool "kmod" "depmod"} -b $out ${release}
  '';

  # Guests with the packages `names`: usr/ and etc/.
  root =
    names:
    let
      debs = debian.closure (debian.named "@guest" ++ names);
      tree = debian.unpack "debian-tree" debs;
    in
    pkgs.runCommand "debian-root" { passthru = { inherit debs tree; }; } ''
      cp -r --reflink=auto ${tree} $out
      chmod -R u+w $out
      cd $out
      bash ${./install.sh} ${../alternatives} ${modules}
      printf '%s\n' ${toString debs} > usr/share/debian-packages
    '';

  # As in nixpkgs: the boot loader below lib/systemd, beside systemd's programs.
  systemd = pkgs.runCommand "systemd-${data.debs.systemd.version}" { builderDebs = [ ]; } ''
    cp -r --no-preserve=mode ${debian.packages.systemd} $out
    mkdir -p $out/lib/systemd
    ln -s ${debian.unpack "systemd-boot" [ "systemd-boot-efi" ]}/usr/lib/systemd/boot $out/lib/systemd/boot
    ln -s /usr/lib/systemd/systemd $out/lib/systemd/systemd
  '';
  cacert = pkgs.runCommand "cacert-${data.debs.ca-certificates.version}" { builderDebs = [ ]; } ''
    cp -r --no-preserve=mode ${debian.packages.cacert} $out
    mkdir -p $out/etc/ssl/certs
    ln -s /etc/ssl/certs/ca-certificates.crt $out/etc/ssl/certs/ca-bundle.crt
  '';
}
