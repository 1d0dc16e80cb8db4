# Types of options: `check` accepts one definition, `merge` makes one value of all: { value, undeclared }.
{ lib }:
let
  inherit (builtins)
    all
    concatMap
    elem
    head
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isString
    length
    mapAttrs
    match
    ;
  inherit (lib) mergeDefs showFiles showOption showValue;

  # A value without parts.
  whole = value: {
    inherit value;
    undeclared = [ ];
  };
  sameOf =
    loc: defs:
    let
      first = head defs;
    in
    if all (def: def.value == first.value) defs then
      whole first.value
    else
      throw ''
        the option `${showOption loc}` has conflicting values; remove one or give one lib.mkForce:
        ${lib.concatMapStringsSep "\n" (def: "  ${showFiles [ def ]}: ${showValue def.value}") defs}'';
  onlyOne =
    loc: defs:
    if length defs == 1 then
      whole (head defs).value
    else
      throw "the option `${showOption loc}` may be defined once, but ${showFiles defs} define it";
  mkType =
    name: description: check: attributes:
    {
      _type = "option-type";
      inherit name description check;
      merge = sameOf;
      # Whether a value may contain undeclared definitions, as submodules may.
      open = false;
      typeMerge = _: null;
      getSubOptions = _: { };
    }
    // attributes;
  simple = name: description: check: mkType name description check { };

  collectParts =
    parts: assemble:
    {
      value = assemble (part: part.value);
      undeclared = concatMap (part: part.undeclared) parts;
    };

  joined =
    name: separator:
    mkType name "a string (several are joined)" isString {
      merge = _: defs: whole (lib.concatMapStringsSep separator (def: def.value) defs);
    };

  between =
    low: high:
    simple "int" "an integer between ${toString low} and ${toString high}" (x: isInt x && x >= low && x <= high);

  attrsOfType =
    lazy: element:
    mkType "attrsOf" "a set whose values are each ${element.description}" isAttrs {
      empty = whole { };
      inherit (element) open;
      nestedTypes.elemType = element;
      merge =
        loc: defs:
        let
          named = lib.byName loc defs;
          defined =
            if lazy then named else lib.filterAttrs (name: d: (lib.discharge (loc ++ [ name ]) d).defs != [ ]) named;
          parts = mapAttrs (name: mergeDefs (loc ++ [ name ]) element) defined;
        in
        collectParts (builtins.attrValues parts) (get: mapAttrs (_: get) parts);
    };

  # Sets merge, equal values stay, lists and texts do not mix.
  mergeAnything =
    loc: defs:
    if all (def: isAttrs def.value && !lib.isDerivation def.value) defs then
      whole (
        lib.mapAttrs (
          name: d: (mergeAnything (loc ++ [ name ]) (lib.discharge (loc ++ [ name ]) d).defs).value
        ) (lib.filterAttrs (name: d: (lib.discharge (loc ++ [ name ]) d).defs != [ ]) (lib.byName loc defs))
      )
    else if length defs == 1 then
      whole (head defs).value
    else if all (def: isList def.value) defs then
      whole (concatMap (def: def.value) defs)
    else
      sameOf loc defs;

  types = {
    unspecified = mkType "unspecified" "anything" (_: true) { merge = mergeAnything; };
    anything = types.unspecified;
    raw = mkType "raw" "anything" (_: true) { merge = onlyOne; };
    optionType = types.raw;
    deferredModule = types.raw;

    bool = simple "bool" "true or false" isBool;
    boolByOr = mkType "bool" "true or false" isBool { merge = _: defs: whole (lib.any (def: def.value) defs); };
    int = simple "int" "an integer" isInt;
    float = simple "float" "a number with a point" isFloat;
    number = simple "number" "a number" (x: isInt x || isFloat x);
    ints = {
      inherit between;
      unsigned = simple "int" "an integer of at least 0" (x: isInt x && x >= 0);
      positive = simple "int" "an integer of at least 1" (x: isInt x && x > 0);
      u8 = between 0 255;
      u16 = between 0 65535;
      u32 = between 0 4294967295;
      s8 = between (-128) 127;
      s16 = between (-32768) 32767;
      s32 = between (-2147483648) 2147483647;
    };
    port = between 0 65535;

    str = simple "str" "a string" isString;
    singleLineStr = simple "singleLineStr" "a string without line breaks" (
      x: isString x && match "[^\n\r]*\n?" x != null
    );
    nonEmptyStr = simple "nonEmptyStr" "a string that is not empty" (
      x: isString x && match "[[:space:]]*" x == null
    );
    strMatching = pattern: simple "strMatching" "a string that matches ${pattern}" (x: isString x && match pattern x != null);
    separatedString = joined "separatedString";
    string = joined "string" "";
    lines = joined "lines" "\n";
    commas = joined "commas" ",";
    envVar = joined "envVar" ":";
    passwdEntry = type: type // { check = x: type.check x && match "[^:\n]*" x != null; };

    path = simple "path" "an absolute path" (x: lib.isStringLike x && lib.hasPrefix "/" (toString x));
    externalPath = types.path;
    pathInStore = simple "path" "a path in the store" (
      x: lib.isStringLike x && lib.hasPrefix builtins.storeDir (toString x)
    );
    package = mkType "package" "a package" (x: lib.isDerivation x || lib.isStorePath x) { merge = onlyOne; };
    shellPackage = types.package;
    pkgs = types.raw;

    attrs = mkType "attrs" "a set" isAttrs {
      empty = whole { };
      merge = mergeAnything;
    };
    attrsOf = attrsOfType false;
    lazyAttrsOf = attrsOfType true;
    listOf =
      element:
      mkType "listOf" "a list whose elements are each ${element.description}" isList {
        empty = whole [ ];
        inherit (element) open;
        nestedTypes.elemType = element;
        merge =
          loc: defs:
          let
            entries = lib.imap0 (
              n: def: { loc = loc ++ [ "[${toString n}]" ]; inherit def; }
            ) (concatMap (def: map (value: def // { inherit value; }) def.value) defs);
            defined = lib.filter (entry: (lib.discharge entry.loc [ entry.def ]).defs != [ ]) entries;
            parts = map (entry: mergeDefs entry.loc element [ entry.def ]) defined;
          in
          collectParts parts (get: map get parts);
      };
    nonEmptyListOf = element: types.listOf element // { check = x: isList x && x != [ ]; };
    functionTo = _: mkType "functionTo" "a function" lib.isFunction { merge = onlyOne; };

    enum = values: simple "enum" "one of ${lib.concatMapStringsSep ", " builtins.toJSON values}" (x: elem x values);
    nullOr =
      type:
      mkType "nullOr" "null or ${type.description}" (x: x == null || type.check x) {
        empty = whole null;
        inherit (type) open;
        merge =
          loc: defs:
          let
            given = lib.filter (def: def.value != null) defs;
          in
          if given == [ ] then whole null else type.merge loc given;
      };
    uniq = type: type // { merge = onlyOne; };
    unique = _: types.uniq;
    either =
      a: b:
      mkType "either" "${a.description} or ${b.description}" (x: a.check x || b.check x) {
        open = a.open || b.open;
        merge = loc: defs: (if all (def: a.check def.value) defs then a else b).merge loc defs;
      };
    oneOf = choices: lib.foldl' types.either (head choices) (lib.tail choices);
    coercedTo =
      from: convert: to:
      to
      // {
        check = x: (from.check x && to.check (convert x)) || to.check x;
        description = "${to.description} or ${from.description}";
        merge =
          loc: defs:
          to.merge loc (map (def: def // { value = if from.check def.value then convert def.value else def.value; }) defs);
      };
    addCheck = type: check: type // { check = x: type.check x && check x; };

    submodule = modules: types.submoduleWith { modules = lib.toList modules; };
    submoduleWith =
      {
        modules,
        specialArgs ? { },
        shorthandOnlyDefinesConfig ? true,
        description ? "a set of options",
        ...
      }:
      let
        evaluate =
          loc: defs:
          lib.evalModules {
            prefix = loc;
            inherit specialArgs;
            modules =
              modules
              ++ [ { _module.args.name = lib.last loc; } ]
              ++ map (
                def:
                if isAttrs def.value && shorthandOnlyDefinesConfig then
                  {
                    _file = def.file;
                    config = def.value;
                  }
                else
                  def.value
              ) defs;
          };
      in
      mkType "submodule" description (x: isAttrs x || lib.isFunction x || builtins.isPath x) {
        open = true;
        getSubModules = modules;
        merge =
          loc: defs:
          let
            result = evaluate loc defs;
          in
          {
            value = removeAttrs result.config [ "_module" ];
            inherit (result) undeclared;
          };
      };
  };
in
types // { mkOptionType = { name, description ? name, check ? (_: true), ... }: simple name description check; }
