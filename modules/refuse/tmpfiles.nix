# Rules of systemd-tmpfiles on the read-only `/`: each would fail at boot, and only the log would say so.
{ config, lib, ... }:
let
  paths = import ../paths.nix { inherit config lib; };
  inherit (config.systemd) tmpfiles;

  # tmpfiles.d(5): type, path, mode, user, group, age, argument. A path with spaces is in quotes and is not checked.
  parse =
    line:
    let
      fields = lib.filter (field: builtins.isString field && field != "") (builtins.split "[[:space:]]+" line);
      at = n: if lib.length fields > n then lib.elemAt fields n else "-";
    in
    {
      type = at 0;
      path = at 1;
      mode = at 2;
      user = at 3;
      group = at 4;
      argument = at 6;
      text = "systemd.tmpfiles.rules has `${line}`";
    };
  fromSettings = lib.concatLists (
    lib.mapAttrsToList (
      file: byPath:
      lib.concatLists (
        lib.mapAttrsToList (
          path: byType:
          lib.mapAttrsToList (type: rule: {
            inherit type path;
            mode = toString (rule.mode or "-");
            user = toString (rule.user or "-");
            group = toString (rule.group or "-");
            argument = rule.argument or "";
            text = ''systemd.tmpfiles.settings.${file} has `${type} ${path}`'';
          }) byType
        ) byPath
      )
      # accounts.nix checks homes, with a better message.
    ) (removeAttrs (tmpfiles.settings or { }) [ "home-directories" ])
  );
  rules = map parse (lib.filter (line: !lib.hasPrefix "#" line) (tmpfiles.rules or [ ])) ++ fromSettings;

  letter = rule: builtins.substring 0 1 rule.type;
  isForced = rule: lib.hasInfix "+" rule.type || lib.hasInfix "=" rule.type;
  links = config.nixvm.image.links;
  isRoots =
    name:
    lib.elem name [
      ""
      "-"
      "0"
      "root"
    ];

  # Whether the image already satisfies the rule.
  isDone =
    rule:
    if
      lib.elem (letter rule) [
        "d"
        "D"
        "e"
        "q"
        "Q"
        "v"
      ]
    then
      paths.isInImage rule.path
      && isRoots rule.user
      && isRoots rule.group
      && lib.elem rule.mode [
        ""
        "-"
        "0755"
        "755"
      ]
    else if letter rule == "L" && links ? ${rule.path} then
      links.${rule.path} == rule.argument
    else
      # Without `+` these types leave an existing path alone.
      lib.elem (letter rule) [
        "C"
        "L"
        "b"
        "c"
        "f"
        "p"
      ]
      && !isForced rule
      && paths.isInImage rule.path;

  # `r` and `R` remove files that the image does not contain. `x` and `X` have no effect by themselves.
  isHarmless = rule: lib.elem (letter rule) [ "r" "R" "x" "X" "" "-" ];
  lost = lib.filter (
    rule:
    let
      path = paths.normalise rule.path;
    in
    paths.isKnown rule.path && !isHarmless rule && !paths.isWritable path && !isDone (rule // { inherit path; })
  ) rules;
in
{
  # One message for each folder that nixvm.persist would need.
  assertions = lib.mapAttrsToList (folder: rules: {
    assertion = false;
    message = ''
      nixvm: ${lib.concatMapStringsSep ",\n" (rule: rule.text) rules}
      but ${folder} is on the read-only `/`. To keep it on the data disk: nixvm.persist = [ "${folder}" ];
      Or use a path below /var; a file or link below /etc that never changes is an entry of environment.etc.'';
  }) (lib.groupBy (rule: paths.toPersist (paths.normalise rule.path)) lost);
}
