# Folders on the read-only `/` that services request from systemd.
{ config, lib, ... }:
let
  paths = import ../paths.nix { inherit config lib; };
  services = lib.filterAttrs (_: service: service.enable) config.systemd.services;

  # A setting of serviceConfig as words: it may be a list, and an element may hold several.
  words =
    value:
    lib.concatMap (text: lib.filter (word: word != "") (lib.splitString " " (toString text))) (
      lib.filter (element: element != null) (lib.flatten [ value ])
    );

  settingsOf =
    name: service:
    let
      setting = key: words (service.serviceConfig.${key} or [ ]);
      lost = lib.filter (path: paths.isKnown path && !paths.isWritable (paths.normalise path));
      isThere = path: paths.isInImage (paths.normalise path);
      # A parent of writable paths: ReadWritePaths=/ includes /var.
      isAbove = path: lib.any (paths.isBelow (paths.normalise path)) paths.madeAtBoot;
      record = key: path: { inherit name key path; };
    in
    # A leading `-` allows a missing folder. Such a value does not begin with a slash, so it is left out.
    map (record "ConfigurationDirectory") (
      lib.filter (path: !isThere path) (
        lost (map (name: "/etc/${name}") (setting "ConfigurationDirectory"))
      )
    )
    ++ map (record "WorkingDirectory") (lib.filter (path: !isThere path) (lost (setting "WorkingDirectory")))
    ++ map (record "ReadWritePaths") (lib.filter (path: !isAbove path) (lost (setting "ReadWritePaths")));

  lost = lib.concatLists (lib.mapAttrsToList settingsOf services);
in
{
  # One message for each folder that nixvm.persist would need.
  assertions = lib.mapAttrsToList (folder: settings: {
    assertion = false;
    message = ''
      nixvm: ${
        lib.concatMapStringsSep ",\n" (
          setting: "systemd.services.${setting.name}.serviceConfig.${setting.key} has ${setting.path}"
        ) settings
      }
      but ${folder} is on the read-only `/`. To keep it on the data disk: nixvm.persist = [ "${folder}" ];
      Or let systemd make a folder below /var/lib: StateDirectory = "${(lib.head settings).name}".'';
  }) (lib.groupBy (setting: paths.toPersist (paths.normalise setting.path)) lost);
}
