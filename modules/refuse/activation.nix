# Activation scripts: nixos-init, which boots a guest without them, runs none, and a user's are run by a unit that only an
# activatable system has. NixOS's own, which userborn, udev and the image replace, stand in files of nixpkgs.
{
  config,
  lib,
  modulesPath,
  options,
  ...
}:
let
  textOf = script: if builtins.isAttrs script then script.text or "" else script;

  # By where they are defined: a list of NixOS's own names would have to follow every nixpkgs. What a condition removed,
  # and what was emptied by mkForce, is lost by nobody.
  foreign =
    option: values:
    lib.filter (name: values ? ${name} && lib.trim (textOf values.${name}) != "") (
      lib.unique (
        lib.concatMap (definition: lib.attrNames definition.value) (
          lib.filter (definition: !lib.hasPrefix modulesPath (toString definition.file)) option.definitionsWithLocations
        )
      )
    );

  scripts = foreign options.system.activationScripts config.system.activationScripts;
  # Of these only the joined script is left in `config`.
  userScripts = lib.filter (name: lib.hasInfix name config.system.userActivationScripts.script) (
    lib.concatMap (definition: lib.attrNames definition.value) (
      lib.filter (
        definition: !lib.hasPrefix modulesPath (toString definition.file)
      ) options.system.userActivationScripts.definitionsWithLocations
    )
  );
  quoted = option: lib.concatMapStringsSep ", " (name: "${option}.${name}");
in
{
  assertions =
    lib.optional (options.system ? activationScripts) {
      assertion = scripts == [ ];
      message = ''
        nixvm: ${quoted "system.activationScripts" scripts} would never run: a guest boots without activation scripts.
        Make it a service instead: systemd.services.NAME with wantedBy = [ "multi-user.target" ], serviceConfig.Type =
        "oneshot" and the script as `script`. For a folder or a link, systemd.tmpfiles.rules does. A module that offers a
        service in its place has an option for it, as sops-nix has sops.useSystemdActivation.'';
    }
    ++ lib.optional (options.system ? userActivationScripts) {
      assertion = userScripts == [ ];
      message = ''
        nixvm: ${quoted "system.userActivationScripts" userScripts} would never run: a guest boots without activation
        scripts. Make it a service of the user's: systemd.user.services.NAME with wantedBy = [ "default.target" ].'';
    };
}
