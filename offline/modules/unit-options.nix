# The options of each kind of unit, and their text as in systemd.unit(5).
{ lib, pkgs }:
let
  inherit (lib) mkOption types;

  scalar = types.oneOf [
    types.bool
    types.int
    types.float
    types.str
    types.path
    types.package
  ];
  settings = mkOption {
    type = types.attrsOf (types.nullOr (types.either scalar (types.listOf scalar)));
    default = { };
    description = "Settings of the section; a list gives a line for each element.";
  };
  names = mkOption {
    type = types.listOf types.str;
    default = [ ];
    description = "Names of units.";
  };
  lines = mkOption {
    type = types.lines;
    default = "";
    description = "Shell code.";
  };
  accepted =
    default:
    mkOption {
      type = types.raw;
      inherit default;
      description = "Accepted: says what happens when a running system is changed, and a guest's never is.";
    };

  show = value: if value == true then "true" else if value == false then "false" else toString value;
  showLines =
    set:
    lib.concatStrings (
      lib.mapAttrsToList (
        name: value: lib.concatMapStrings (v: "${name}=${show v}\n") (lib.optionals (value != null) (lib.toList value))
      ) set
    );
  section = name: set: "[${name}]\n${showLines set}";

  commonOptions = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the unit exists; off masks it.";
    };
    description = mkOption {
      type = types.str;
      default = "";
      description = "One line for people.";
    };
    documentation = names;
    unitConfig = settings;
    aliases = names;
    wantedBy = names;
    requiredBy = names;
    upheldBy = names;
    overrideStrategy = mkOption {
      type = types.enum [
        "asDropinIfExists"
        "asDropin"
      ];
      default = "asDropinIfExists";
      description = "Whether the unit adds to one of the same name.";
    };
    startLimitBurst = mkOption {
      type = types.nullOr types.int;
      default = null;
      description = "How many starts in the interval are too many.";
    };
    startLimitIntervalSec = mkOption {
      type = types.nullOr types.int;
      default = null;
      description = "Seconds in which starts are counted.";
    };
    restartTriggers = accepted [ ];
    reloadTriggers = accepted [ ];
    restartIfChanged = accepted true;
    reloadIfChanged = accepted false;
    stopIfChanged = accepted true;
    notSocketActivated = accepted false;
  }
  // lib.mapAttrs (_: _: names) dependencies;

  dependencies = {
    after = "After";
    before = "Before";
    bindsTo = "BindsTo";
    conflicts = "Conflicts";
    onFailure = "OnFailure";
    onSuccess = "OnSuccess";
    partOf = "PartOf";
    requires = "Requires";
    requisite = "Requisite";
    upholds = "Upholds";
    wants = "Wants";
  };

  unitSection =
    unit:
    section "Unit" (
      lib.optionalAttrs (unit.description != "") { Description = unit.description; }
      // lib.optionalAttrs (unit.documentation != [ ]) { Documentation = unit.documentation; }
      // lib.mapAttrs' (option: setting: lib.nameValuePair setting (lib.concatStringsSep " " unit.${option})) (
        lib.filterAttrs (option: _: unit.${option} != [ ]) dependencies
      )
      // {
        StartLimitIntervalSec = unit.startLimitIntervalSec;
        StartLimitBurst = unit.startLimitBurst;
      }
      // unit.unitConfig
    );

  serviceOptions = {
    serviceConfig = settings;
    environment = mkOption {
      type = types.attrsOf (types.nullOr scalar);
      default = { };
      description = "Variables; null removes one.";
    };
    path = mkOption {
      type = types.listOf (types.either types.package types.str);
      default = [ ];
      description = "Packages whose programs are on PATH, before the system's.";
    };
    script = lines;
    preStart = lines;
    postStart = lines;
    reload = lines;
    preStop = lines;
    postStop = lines;
    scriptArgs = mkOption {
      type = types.str;
      default = "";
      description = "Arguments of the script.";
    };
    enableStrictShellChecks = accepted false;
    startAt = mkOption {
      type = types.coercedTo types.str lib.singleton (types.listOf types.str);
      default = [ ];
      description = "Times at which a timer starts the service, as in systemd.time(7).";
    };
  };
  systemPath = "/run/wrappers/bin:/usr/bin:/usr/sbin";
  shellCode = name: suffix: text: "${pkgs.writeShellScript "unit-script-${lib.sanitizeDerivationName name}-${suffix}" "set -e\n${text}"}";
  serviceSections =
    globalEnvironment: name: unit:
    let
      command = setting: suffix: text: arguments: {
        ${setting} = lib.optional (text != "") "${shellCode name suffix text}${lib.optionalString (arguments != "") " ${arguments}"}";
      };
      scripts = lib.filterAttrs (_: v: v != [ ]) (
        command "ExecStart" "start" unit.script unit.scriptArgs
        // command "ExecStartPre" "pre-start" unit.preStart ""
        // command "ExecStartPost" "post-start" unit.postStart ""
        // command "ExecReload" "reload" unit.reload ""
        // command "ExecStop" "pre-stop" unit.preStop ""
        // command "ExecStopPost" "post-stop" unit.postStop ""
      );
      environment =
        globalEnvironment
        // lib.optionalAttrs (unit.path != [ ]) {
          PATH = "${lib.concatMapStringsSep ":" (package: "${package}/bin") unit.path}:${systemPath}";
        }
        // unit.environment;
      both = scripts // unit.serviceConfig;
      merged = both // lib.mapAttrs (setting: v: v ++ lib.toList unit.serviceConfig.${setting}) (
        lib.filterAttrs (setting: _: unit.serviceConfig ? ${setting}) scripts
      );
    in
    section "Service" (
      lib.optionalAttrs (environment != { }) {
        Environment = lib.mapAttrsToList (variable: v: builtins.toJSON "${variable}=${show v}") (
          lib.filterAttrs (_: v: v != null) environment
        );
      }
      // merged
    );

  kinds =
    let
      kind =
        option: suffix: extra: body:
        {
          inherit option suffix body;
          declaration = mkOption {
            type = types.attrsOf (types.submodule { options = commonOptions // extra; });
            default = { };
            description = "Units of the kind .${suffix}.";
          };
        };
      plain = title: key: _: _: unit: section title unit.${key};
      listens = {
        listenStreams = names;
        listenDatagrams = names;
      };
      mount = {
        what = mkOption {
          type = types.str;
          description = "What is mounted.";
        };
        where = mkOption {
          type = types.str;
          description = "Where it is mounted; the unit is named after it.";
        };
        type = mkOption {
          type = types.str;
          default = "";
          description = "Type of the file system.";
        };
        options = mkOption {
          type = types.commas;
          default = "";
          description = "Mount options.";
        };
        mountConfig = settings;
      };
      # A mount's name must be the systemd-escape(1) of its path; this covers the cases of a guest's paths.
      mountKind =
        (kind "mounts" "mount" { } null)
        // {
          declaration = mkOption {
            type = types.listOf (types.submodule { options = commonOptions // mount; });
            default = [ ];
            apply = list: lib.listToAttrs (map (unit: lib.nameValuePair (escapePath unit.where) unit) list);
            description = "Mount units.";
          };
          body =
            _: _: unit:
            section "Mount" (
              {
                What = unit.what;
                Where = unit.where;
              }
              // lib.optionalAttrs (unit.type != "") { Type = unit.type; }
              // lib.optionalAttrs (unit.options != "") { Options = unit.options; }
              // unit.mountConfig
            );
        };
    in
    [
      (kind "services" "service" serviceOptions serviceSections)
      (kind "sockets" "socket" (listens // { socketConfig = settings; }) (
        _: _: unit:
        section "Socket" (
          lib.optionalAttrs (unit.listenStreams != [ ]) { ListenStream = unit.listenStreams; }
          // lib.optionalAttrs (unit.listenDatagrams != [ ]) { ListenDatagram = unit.listenDatagrams; }
          // unit.socketConfig
        )
      ))
      (kind "timers" "timer" { timerConfig = settings; } (plain "Timer" "timerConfig"))
      (kind "paths" "path" { pathConfig = settings; } (plain "Path" "pathConfig"))
      (kind "slices" "slice" { sliceConfig = settings; } (plain "Slice" "sliceConfig"))
      (kind "targets" "target" { } (_: _: _: ""))
      mountKind
    ];

  escapePath =
    path:
    let
      trimmed = lib.removePrefix "/" (lib.removeSuffix "/" path);
    in
    if trimmed == "" then
      "-"
    else
      lib.concatMapStringsSep "-" (part: builtins.replaceStrings [ "-" ] [ "\\x2d" ] part) (lib.splitString "/" trimmed);

  toUnit =
    globalEnvironment: kind: name: unit:
    let
      file = "${name}.${kind.suffix}";
      into = folder: map (target: "${target}.${folder}/${file}");
      # A service with its own command is complete and replaces Debian's.
      whole = kind.option == "services" && (unit.script != "" || unit.serviceConfig ? ExecStart);
    in
    {
      inherit file;
      inherit (unit) enable;
      text = lib.concatStringsSep "\n" [
        (unitSection unit)
        (kind.body globalEnvironment name unit)
      ];
      strategy =
        if unit.overrideStrategy == "asDropin" then
          "dropin"
        else if whole then
          "whole"
        else
          "dropin-if-exists";
      links =
        into "wants" unit.wantedBy ++ into "requires" unit.requiredBy ++ into "upholds" unit.upheldBy ++ unit.aliases;
    };
in
{
  inherit
    escapePath
    kinds
    section
    toUnit
    ;
}
