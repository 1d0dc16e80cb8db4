# Definitions of modules: properties around values, which definitions of an option count, and how they become one value.
{ lib }:
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    filter
    isAttrs
    isBool
    isFunction
    isList
    mapAttrs
    zipAttrsWith
    ;
  inherit (lib) concatStringsSep;

  isType = type: value: isAttrs value && value._type or null == type;
  isProperty = value: isAttrs value && builtins.elem (value._type or null) [ "if" "merge" "override" "order" ];
  isOption = isType "option";

  showOption = loc: concatStringsSep "." (map showName loc);
  showName =
    name: if builtins.match "[a-zA-Z_@\\[][-a-zA-Z0-9_'@ \\[]*]?" name != null then name else builtins.toJSON name;
  showFiles = defs: concatStringsSep " and " (map (def: "`${toString def.file}`") defs);

  defaultPriority = 100;
  defaultOrder = 1000;

  properties = rec {
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkOptionDefault = mkOverride 1500;
    mkDefault = mkOverride 1000;
    mkImageMediaOverride = mkOverride 60;
    mkForce = mkOverride 50;
    mkVMOverride = mkOverride 10;
    mkOrder = order: content: {
      _type = "order";
      inherit order content;
    };
    mkBefore = mkOrder 500;
    mkAfter = mkOrder 1500;
    mkAssert = condition: message: content: if condition then content else throw message;
  };

  # Moves the properties around a set of definitions to each of them: [ sets whose values may be properties ].
  pushDown =
    loc: def:
    let
      go =
        value:
        if isType "merge" value then
          concatMap go value.contents
        else if isType "if" value then
          map (mapAttrs (_: v: value // { content = v; })) (go value.content)
        else if isType "override" value || isType "order" value then
          map (mapAttrs (_: v: value // { content = v; })) (go value.content)
        else if isAttrs value then
          [ value ]
        else
          throw "`${showOption loc}` is a set of options, but ${showFiles [ def ]} defines it as a ${builtins.typeOf value}";
    in
    go def.value;

  # Definitions of sets -> a set of definitions.
  byName =
    loc: defs:
    zipAttrsWith (_: concatLists) (
      concatMap (def: map (mapAttrs (_: value: [ { inherit (def) file; inherit value; } ])) (pushDown loc def)) defs
    );

  # The plain definitions that count: conditions applied, the strongest priority only, in order.
  discharge =
    loc: defs:
    let
      go =
        def:
        let
          inherit (def) value;
          inner = content: go (def // { value = content; });
        in
        if isType "merge" value then
          concatMap inner value.contents
        else if isType "if" value then
          if !isBool value.condition then
            throw "the condition of `${showOption loc}` in ${showFiles [ def ]} is no boolean"
          else if value.condition then
            inner value.content
          else
            [ ]
        else if isType "override" value then
          map (d: d // { inherit (value) priority; }) (inner value.content)
        else if isType "order" value then
          map (d: d // { inherit (value) order; }) (inner value.content)
        else
          [ def ];
      all = concatMap go defs;
      priority = def: def.priority or defaultPriority;
      strongest = builtins.foldl' (p: def: lib.min p (priority def)) 10000 all;
      chosen = filter (def: priority def == strongest) all;
      ordered = builtins.sort (a: b: a.order or defaultOrder < b.order or defaultOrder) chosen;
    in
    {
      inherit strongest;
      defs = if lib.any (def: def ? order) chosen then ordered else chosen;
    };

  # One value of a type from its definitions: { value, undeclared }.
  mergeDefs =
    loc: type: defs:
    let
      found = discharge loc defs;
      wrong = filter (def: !type.check def.value) found.defs;
    in
    if found.defs == [ ] then
      type.empty or (throw "the option `${showOption loc}` is used, but has no value; define it")
    else if wrong != [ ] then
      throw ''
        the option `${showOption loc}` has to be ${type.description}, but
        ${lib.concatMapStringsSep "\n" (def: "  ${showFiles [ def ]} defines it as ${showValue def.value}") wrong}''
    else
      type.merge loc found.defs;

  showValue =
    value:
    if isFunction value then
      "a function"
    else if lib.isDerivation value then
      "the package ${value.name or "?"}"
    else if isAttrs value then
      "a set with ${toString (builtins.length (attrNames value))} attributes"
    else if isList value then
      "a list of ${toString (builtins.length value)}"
    else
      builtins.toJSON value;
in
properties
// {
  inherit
    byName
    discharge
    isOption
    isProperty
    isType
    mergeDefs
    properties
    showFiles
    showOption
    showValue
    ;
}
