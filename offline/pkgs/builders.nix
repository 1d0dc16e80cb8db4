# nixpkgs' trivial builders. A builder runs Debian's programs out of the store, so Nix's sandbox hides nothing that it needs.
{ lib, pkgs, data, debian }:
let
  inherit (lib) concatMapStringsSep escapeShellArg;

  # The Debian packages of the inputs whose programs a builder runs.
  debsOf =
    attributes:
    lib.concatMap (input: input.debs or [ ]) (
      lib.filter builtins.isAttrs (attributes.nativeBuildInputs or [ ] ++ attributes.buildInputs or [ ])
    );

  # `builderDebs` names the builder's packages in addition to @builder; by default they follow from the packages that it
  # mentions. With `hostPaths` it runs the host's own programs, and sees these folders of the host.
  build =
    name: attributes: command:
    let
      structured = attributes.__structuredAttrs or false;
      plain = removeAttrs attributes [
        "meta"
        "passthru"
        "preferLocalBuild"
        "allowSubstitutes"
        "builderDebs"
        "hostPaths"
      ];
      drv = derivation (
        plain
        // {
          name = lib.sanitizeDerivationName name;
          inherit (data) system;
          builder = "${debian.bootstrap}/bin/bash";
          args =
            if attributes ? hostPaths then
              [ ./on-host.sh ./builder.sh ] ++ attributes.hostPaths
            else
              [
                ./enter.sh
                "${debian.bootstrap}/bin/busybox"
                "${debian.programs (attributes.builderDebs or (debsOf attributes ++ debian.usedIn command))}"
                debian.multiarch
                ./builder.sh
              ];
          buildCommand = command;
        }
        # A command may be longer than an environment variable can be.
        // lib.optionalAttrs (!structured) { passAsFile = [ "buildCommand" ] ++ attributes.passAsFile or [ ]; }
      );
    in
    drv
    // {
      meta = attributes.meta or { };
      passthru = attributes.passthru or { };
    }
    // attributes.passthru or { };

  runCommand = name: attributes: build name attributes;
in
rec {
  inherit runCommand;
  runCommandLocal = runCommand;
  runCommandCC = runCommand;
  runCommandNoCC = runCommand;

  writeTextFile =
    {
      name,
      text,
      executable ? false,
      destination ? "",
      checkPhase ? "",
      meta ? { },
      passthru ? { },
      ...
    }:
    runCommand name
      {
        inherit text meta passthru;
        passAsFile = [ "text" ];
      }
      ''
        target=$out${escapeShellArg destination}
        mkdir -p "$(dirname "$target")"
        cp "$textPath" "$target"
        chmod ${if executable then "0755" else "0644"} "$target"
        ${checkPhase}
      '';
  writeText = name: text: writeTextFile { inherit name text; };
  writeTextDir = path: text: writeTextFile {
    name = baseNameOf path;
    inherit text;
    destination = "/${path}";
  };
  writeScript = name: text: writeTextFile {
    inherit name text;
    executable = true;
  };
  writeScriptBin = name: text: writeTextFile {
    inherit name text;
    executable = true;
    destination = "/bin/${name}";
    meta.mainProgram = name;
  };
  writeShellScript = name: text: writeScript name "#!/bin/bash\n${text}\n";
  writeShellScriptBin = name: text: writeScriptBin name "#!/bin/bash\n${text}\n";
  writeShellApplication =
    {
      name,
      text,
      runtimeInputs ? [ ],
      ...
    }:
    writeShellScriptBin name ''
      set -euo pipefail
      export PATH=${lib.makeBinPath runtimeInputs}:$PATH
      ${text}'';
  writers = {
    writeBash = writeShellScript;
    writeBashBin = writeShellScriptBin;
    writeJSON = name: value: writeText name (builtins.toJSON value);
  };
  concatText = name: files: runCommand name { } "cat ${lib.escapeShellArgs files} > $out";

  linkFarm =
    name: entries:
    let
      list =
        if builtins.isAttrs entries then lib.mapAttrsToList (name: path: { inherit name path; }) entries else entries;
    in
    runCommand name { } ''
      mkdir -p $out
      cd $out
      ${concatMapStringsSep "\n" (entry: ''
        mkdir -p "$(dirname ${escapeShellArg entry.name})"
        ln -s ${escapeShellArg "${entry.path}"} ${escapeShellArg entry.name}'') list}
    '';

  # Real folders with links to the files, so that two packages can have files in the same folder.
  buildEnv =
    {
      name,
      paths,
      pathsToLink ? [ "/" ],
      postBuild ? "",
      passthru ? { },
      meta ? { },
      ...
    }:
    runCommand name { inherit passthru meta; } ''
      mkdir -p $out
      for path in ${toString (map (path: "${path}") (lib.flatten paths))}; do
        for folder in ${lib.escapeShellArgs pathsToLink}; do
          if [ -d "$path$folder" ]; then
            mkdir -p "$out$folder"
            cp -rsf --no-preserve=mode "$path$folder/." "$out$folder"
          fi
        done
      done
      ${postBuild}
    '';
  symlinkJoin = buildEnv;

  # The store paths that a root needs, as `store-paths`, one a line.
  closureInfo =
    { rootPaths }:
    runCommand "closure-info"
      {
        exportReferencesGraph = lib.concatLists (
          lib.imap0 (n: path: [
            "graph-${toString n}"
            path
          ]) rootPaths
        );
      }
      ''
        mkdir $out
        cat graph-* | grep "^$NIX_STORE/" | grep -v '\.drv$' | sort -u > $out/store-paths
      '';

  # Phases given as text, in nixpkgs' order; enough for what a workspace adds to a guest.
  mkDerivation =
    attributes:
    let
      arguments = if lib.isFunction attributes then lib.fix attributes else attributes;
      phase = name: default: ''
        ${arguments."pre${name}" or ""}
        ${arguments."${lib.toLower (builtins.substring 0 1 name)}${builtins.substring 1 99 name}Phase" or default}
        ${arguments."post${name}" or ""}
      '';
      unpack = lib.optionalString (arguments ? src) ''
        if [ -d "$src" ]; then cp -r "$src" source; chmod -R u+w source; cd source
        else mkdir source; tar -xf "$src" -C source --strip-components=1; cd source; fi'';
    in
    build (arguments.name or "${arguments.pname}-${arguments.version}")
      (removeAttrs arguments (lib.filter (lib.hasSuffix "Phase") (lib.attrNames arguments) ++ [ "buildCommand" "env" ])
        // arguments.env or { }
        // {
          stdenv = stdenvSetup;
        })
      (
        arguments.buildCommand or ''
          runHook() { :; }
          ${if arguments.dontUnpack or false then "" else phase "Unpack" unpack}
          ${phase "Patch" ""}
          ${phase "Configure" "if [ -x ./configure ]; then ./configure --prefix=$out; fi"}
          ${phase "Build" "if [ -e Makefile ]; then make; fi"}
          ${phase "Install" "if [ -e Makefile ]; then make install PREFIX=$out prefix=$out; else mkdir -p $out; fi"}
          ${phase "Fixup" ""}
        ''
      );

  # `nix develop` reads this before a derivation's environment.
  stdenvSetup = runCommand "stdenv-setup" { } ''
    mkdir $out
    cp ${./setup.sh} $out/setup
  '';
}
