# A system as one store path, from which the initial ramdisk and systemd start. For two machines of a profile it differs
# only in /etc, which is small; Debian's files and the units belong to the profile.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  failed = map (entry: entry.message) (lib.filter (entry: !entry.assertion) config.assertions);
  checked =
    value:
    if failed != [ ] then
      throw "the configuration does not hold together:\n${lib.concatMapStrings (message: "- ${message}\n") failed}"
    else
      lib.foldr lib.warn value config.warnings;
  notCarriedOut = config.system.notCarriedOut;
in
{
  options.system = {
    build.toplevel = mkOption {
      type = types.package;
      internal = true;
      description = "The system.";
    };
    build.debian = mkOption {
      type = types.package;
      internal = true;
      description = "Debian's files.";
    };
    stateVersion = mkOption {
      type = types.str;
      default = lib.trivial.release;
      description = "The release whose services wrote /var.";
    };
    name = mkOption {
      type = types.str;
      default = "debian";
      description = "Name of the system.";
    };
  };

  config = {
    system.build.debian = pkgs.guest.root (lib.sort builtins.lessThan (lib.unique config.system.debianPackages));

    # In `/` of an image Debian's folders are links into /usr, which the initial ramdisk mounts from the toplevel.
    nixvm.image.links = {
      "/bin" = "usr/bin";
      "/lib" = "usr/lib";
      "/lib64" = "usr/lib64";
      "/sbin" = "usr/sbin";
    };

    environment.etc."machine-id".text = lib.mkDefault "";

    system.build.toplevel = checked (
      pkgs.runCommand "debian-system-${config.system.name}"
        {
          exportReferencesGraph = [
            "closure"
            config.system.build.etc
            "path-closure"
            config.system.path
          ];
          inherit notCarriedOut;
          etcTexts = lib.concatMapStrings (entry: lib.optionalString (entry.text != null) "${entry.text}\n") (
            lib.attrValues config.environment.etc
          );
          passAsFile = [ "etcTexts" ];
        }
        ''
          mkdir $out
          ln -s /usr/lib/systemd/systemd $out/init
          ln -s ${config.system.build.etc} $out/etc.erofs
          ln -s ${config.system.build.debian}/etc $out/etc-base
          ln -s ${config.system.build.debian}/usr $out/usr
          ln -s ${config.system.path} $out/sw
          # Nix looks for store paths in what was built, and finds none in a text that the image of /etc has compressed.
          grep -oE "$NIX_STORE/[a-z0-9]{32}-[A-Za-z0-9+._?=-]+" "$etcTextsPath" | sort -u > $out/etc-references || true

          # A package named in a unit or a script is links to /usr/bin; what they lead to has to be there.
          missing=$(
            cat closure path-closure | grep "^$NIX_STORE/" | grep -v '\.drv$' | sort -u | while read -r path; do
              if [ -f "$path/nix-support/debian-packages" ]; then cat "$path/nix-support/debian-packages"; fi
            done | sort -u | grep -vxFf ${config.system.build.debian}/usr/share/debian-packages || true
          )
          if [ -n "$missing" ]; then
            echo "error: the configuration refers to programs of these Debian packages, which the guest does not have:" $missing >&2
            echo "hint: add the packages they come from to environment.systemPackages" >&2
            exit 1
          fi
          cat closure path-closure | grep "^$NIX_STORE/" | grep -v '\.drv$' | sort -u | bash ${./check-programs.sh}
          for name in $notCarriedOut; do
            echo "not carried out by the offline base: $name"
          done
        ''
    );
  };
}
