# Activation scripts. nixos-init boots a guest without them, and a unit that only an activatable system has runs those of
# users. userborn, udev and the image replace NixOS's own scripts, which are defined in files of nixpkgs.
{
  config,
  lib,
  modulesPath,
  options,
  ...
}:
let
  textOf = script: if builtins.isAttrs script then script.text or "" else script;

  # Goes by the defining file, because a list of NixOS's own names would have to follow every nixpkgs. Scripts that a
  # condition removed, or that mkForce emptied, do not count.
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
  # `config` has only the joined script of these.
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
        "oneshot" and the script as `script`. For a folder or a link, use systemd.tmpfiles.rules. Some modules have an
        option for a service, such as sops-nix's sops.useSystemdActivation.'';
    }
    ++ lib.optional (options.system ? userActivationScripts) {
      assertion = userScripts == [ ];
      message = ''
        nixvm: ${quoted "system.userActivationScripts" userScripts} would never run: a guest boots without activation
        scripts. Make it a user service: systemd.user.services.NAME with wantedBy = [ "default.target" ].'';
    };
}
