# Attribute sets.
{ lists }:
rec {
  inherit (builtins)
    attrNames
    attrValues
    catAttrs
    getAttr
    hasAttr
    intersectAttrs
    isAttrs
    listToAttrs
    mapAttrs
    removeAttrs
    zipAttrsWith
    ;

  nameValuePair = name: value: { inherit name value; };
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  attrsToList = mapAttrsToList nameValuePair;
  concatMapAttrs = f: set: mergeAttrsList (mapAttrsToList f set);
  mergeAttrsList = builtins.foldl' (a: b: a // b) { };
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  genAttrs' = xs: f: listToAttrs (map f xs);
  filterAttrs =
    predicate: set: removeAttrs set (builtins.filter (name: !predicate name set.${name}) (attrNames set));
  optionalAttrs = condition: set: if condition then set else { };
  foldlAttrs =
    f: initial: set:
    builtins.foldl' (acc: name: f acc name set.${name}) initial (attrNames set);
  getAttrs = names: set: genAttrs names (name: set.${name});
  attrVals = names: set: map (name: set.${name}) names;
  zipAttrs = zipAttrsWith (_: values: values);
  mergeAttrs = a: b: a // b;
  isDerivation = value: value.type or null == "derivation";
  recurseIntoAttrs = set: set // { recurseForDerivations = true; };

  attrByPath =
    path: default: set:
    if path == [ ] then
      set
    else if isAttrs set && hasAttr (builtins.head path) set then
      attrByPath (builtins.tail path) default set.${builtins.head path}
    else
      default;
  hasAttrByPath =
    path: set:
    path == [ ] || (isAttrs set && hasAttr (builtins.head path) set && hasAttrByPath (builtins.tail path) set.${builtins.head path});
  getAttrFromPath =
    path: set: attrByPath path (throw "there is no attribute ${builtins.concatStringsSep "." path}") set;
  setAttrByPath =
    path: value: if path == [ ] then value else { ${builtins.head path} = setAttrByPath (builtins.tail path) value; };

  recursiveUpdate =
    a: b:
    a
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (a.${name} or null) && !isDerivation value then recursiveUpdate a.${name} value else value
    ) b;
  mapAttrsRecursive =
    f:
    let
      walk =
        path: mapAttrs (name: value: (if isAttrs value then walk (path ++ [ name ]) else f (path ++ [ name ])) value);
    in
    walk [ ];
  collect =
    predicate: set:
    if predicate set then
      [ set ]
    else if isAttrs set then
      lists.concatMap (collect predicate) (attrValues set)
    else
      [ ];

  getBin = package: package.bin or package;
  getLib = package: package.lib or package;
  getDev = package: package.dev or package;
  getOutput = output: package: package.${output} or package;
}
