# Debian packages as derivations: a program's name on both sides, the builder's /usr while building and the guest's while
# running.
{ lib, pkgs, data }:
let
  debArch =
    {
      x86_64-linux = "amd64";
      aarch64-linux = "arm64";
    }
    .${data.system};

  # packages.list: [ { name; debs; } ]
  lines = lib.filter (line: line != "" && !lib.hasPrefix "#" line) (
    lib.splitString "\n" (builtins.readFile ../packages.list)
  );
  table = map (
    line:
    let
      words = lib.filter (word: word != "") (lib.splitString " " (builtins.replaceStrings [ "ARCH" ] [ debArch ] line));
    in
    {
      name = lib.head words;
      debs = lib.tail words;
    }
  ) lines;
  named = name: lib.concatMap (entry: lib.optionals (entry.name == name) entry.debs) table;

  # Read by the evaluator, which runs as the user and checks the hash: the daemon's builders may not read a home folder.
  fetch =
    name:
    let
      deb = data.debs.${name} or (throw "the offline base has no Debian package `${name}`; add it to offline/packages.list and run offline/prepare");
    in
    builtins.fetchurl {
      name = lib.sanitizeDerivationName deb.file;
      url = "file://${data.debDir}/${deb.file}";
      inherit (deb) sha256;
    };

  # The names of packages with everything they depend on, sorted.
  closure =
    names:
    lib.sort builtins.lessThan (
      map (entry: entry.key) (
        builtins.genericClosure {
          startSet = map (key: { inherit key; }) names;
          operator = entry: map (key: { inherit key; }) (data.debs.${entry.key} or { depends = [ ]; }).depends;
        }
      )
    );

  # Programs whose names differ from the package's.
  mainPrograms = {
    bind = "dig";
    cacert = "update-ca-certificates";
    fd = "fd";
    gnugrep = "grep";
    gnumake = "make";
    gnused = "sed";
    gnutar = "tar";
    gnupg = "gpg";
    netcat = "nc";
    openssh = "ssh";
    ripgrep = "rg";
    sqlite = "sqlite3";
  };

  # Without Debian's epoch, which no program's own version has.
  versionOf = name: lib.last (lib.splitString ":" data.debs.${name}.version);

  # A name of nixpkgs without a Debian package (`-` in packages.list). A profile may request it, and the build lists it as not
  # carried out; a command that needs it fails.
  missing = name: {
    type = "derivation";
    inherit name;
    missing = name;
    outPath = throw "the offline base has no package `${name}`; take this machine's packages from nixpkgs (--nixpkgs), or leave it out";
  };

  # bin/NAME -> where Debian has it, in a builder as in a guest (enter.sh).
  package =
    { name, debs }:
    let
      version = versionOf (lib.head debs);
    in
    pkgs.runCommand "${name}-${version}" {
      archives = map fetch debs;
      builderDebs = [ ];
      passthru = {
        inherit debs version;
        pname = name;
      };
      meta.mainProgram = mainPrograms.${name} or name;
    } ''
      mkdir -p $out/bin $out/nix-support
      printf '%s\n' ${toString debs} > $out/nix-support/debian-packages
      printf %s ${name} > $out/nix-support/name
      for archive in $archives; do
        dpkg-deb --fsys-tarfile "$archive" | tar -t | sed -nE 's,^\./(usr/)?(s?bin/[^/]+)$,/usr/\2,p'
      done | while read -r program; do ln -sf "$program" "$out/bin/"; done
      while read -r link target; do
        if [ -L "$out/bin/$target" ]; then ln -sf "/usr/bin/$link" "$out/bin/$link"; fi
      done < <(grep -v '^#' ${../alternatives})
      if [ -z "$(ls $out/bin)" ]; then
        echo "error: pkgs.${name} has no program: there is none in Debian's ${toString debs}" >&2
        echo "hint: put the Debian package that has it into offline/packages.list, and run offline/prepare" >&2
        exit 1
      fi
    '';

  # bash and busybox, linked statically.
  bootstrap = builtins.fetchTarball {
    name = "bootstrap";
    url = "file://${data.bootstrap.file}";
    inherit (data.bootstrap) sha256;
  };

  # The /usr of a builder. All builders share one tree; only a builder with further packages gets another one.
  everyBuilders = closure (named "@builder");
  programsOf =
    debs:
    derivation {
      name = "builder-programs";
      inherit (data) system;
      builder = "${bootstrap}/bin/bash";
      args = [
        ./programs.sh
        "${bootstrap}/bin/busybox"
        ../alternatives
      ];
      archives = map fetch debs;
    };
  everyBuildersPrograms = programsOf everyBuilders;
  programs =
    names:
    if lib.all (name: lib.elem name everyBuilders) names then
      everyBuildersPrograms
    else
      programsOf (closure (named "@builder" ++ names));

  # A tree of unpacked packages, without documentation and translations.
  unpack =
    name: debs:
    pkgs.runCommand name {
      archives = map fetch debs;
      builderDebs = [ ];
    } ''
      mkdir $out
      for archive in $archives; do
        dpkg-deb --fsys-tarfile "$archive" | tar -x -C $out --keep-directory-symlink --no-same-owner --no-same-permissions \
          --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/info' \
          --exclude='./usr/share/locale' --exclude='./usr/share/lintian' --exclude='./usr/share/bug'
      done
    '';

  packages = lib.listToAttrs (
    map (entry: lib.nameValuePair entry.name (if entry.debs == [ "-" ] then missing entry.name else package entry)) (
      lib.filter (entry: !lib.hasPrefix "@" entry.name) table
    )
  );
  byDerivation = lib.listToAttrs (
    map (p: lib.nameValuePair (builtins.unsafeDiscardStringContext p.drvPath) p.debs) (
      lib.filter (p: !(p ? missing)) (lib.attrValues packages)
    )
  );
in
{
  # The Debian packages behind the store paths in a text, such as "${pkgs.jq}/bin/jq".
  usedIn = text: lib.concatMap (drv: byDerivation.${drv} or [ ]) (lib.attrNames (builtins.getContext text));

  inherit
    bootstrap
    closure
    fetch
    named
    packages
    programs
    unpack
    ;
  multiarch = if debArch == "amd64" then "x86_64-linux-gnu" else "aarch64-linux-gnu";
}
