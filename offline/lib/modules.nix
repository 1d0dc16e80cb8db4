# A module system: options with types, definitions with conditions, priorities and order.
#
# It differs from nixpkgs' in one point. The definition of an undeclared option is no error: a guest of the
# offline base carries out a part of NixOS, so `undeclared` collects such names, and the build lists them.
{ lib }:
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    filter
    isAttrs
    isPath
    isString
    mapAttrs
    removeAttrs
    zipAttrsWith
    ;
  inherit (lib)
    byName
    discharge
    imap0
    isOption
    isProperty
    isType
    mergeDefs
    optional
    properties
    showFiles
    showOption
    ;

  # One declared option: { value, undeclared, option }.
  evalOption =
    loc: declaration: defs:
    let
      type = declaration.type or lib.types.unspecified;
      default = optional (declaration ? default) {
        file = "default";
        value = properties.mkOptionDefault declaration.default;
      };
      merged = mergeDefs loc type (defs ++ default);
      found = discharge loc defs;
      value =
        if declaration.readOnly or false && builtins.length found.defs > 1 then
          throw "the option `${showOption loc}` is read-only, but ${showFiles found.defs} define it"
        else
          (declaration.apply or lib.id) merged.value;
    in
    {
      inherit value;
      undeclared = lib.optionals type.open merged.undeclared;
      option = declaration // {
        inherit loc type value;
        isDefined = found.defs != [ ];
        highestPrio = found.strongest;
        files = map (def: def.file) found.defs;
        definitions = map (def: def.value) found.defs;
        definitionsWithLocations = map (def: { inherit (def) file value; }) found.defs;
        __toString = _: showOption loc;
      };
    };

  # The names of the definitions below an undeclared one.
  leaves =
    loc: defs:
    let
      plain = (discharge loc defs).defs;
      isSet = def: isAttrs def.value && !(lib.isDerivation def.value) && def.value != { } && !(def.value ? _type);
    in
    if plain == [ ] then
      [ ]
    else if lib.all isSet plain then
      concatLists (lib.mapAttrsToList (name: leaves (loc ++ [ name ])) (byName loc plain))
    else
      [
        {
          name = showOption loc;
          files = map (def: toString def.file) plain;
        }
      ];

  # A tree of declarations with its definitions: { value, undeclared, option } as for one option.
  evalTree =
    loc: declarations: freeformType: defs:
    let
      named = byName loc defs;
      children = mapAttrs (
        name: declaration:
        (if isOption declaration then evalOption (loc ++ [ name ]) declaration else evalTree (loc ++ [ name ]) declaration null) (
          named.${name} or [ ]
        )
      ) declarations;
      declared = mapAttrs (_: child: child.value) children;
      unknown = removeAttrs named (attrNames declarations);
      free = mergeDefs loc freeformType (
        concatLists (
          lib.mapAttrsToList (name: map (def: def // { value = { ${name} = def.value; }; })) unknown
        )
      );
    in
    {
      option = mapAttrs (_: child: child.option) children;
      value = if freeformType == null || unknown == { } then declared else free.value // declared;
      undeclared =
        concatMap (child: child.undeclared) (builtins.attrValues children)
        ++ (
          if freeformType == null then
            concatLists (lib.mapAttrsToList (name: leaves (loc ++ [ name ])) unknown)
          else if unknown == { } then
            [ ]
          else
            free.undeclared
        );
    };

  # Trees of declarations -> one tree.
  mergeDeclarations =
    loc: trees:
    zipAttrsWith (
      name: found:
      let
        here = loc ++ [ name ];
        isDeclared = filter (tree: isOption tree.value) found;
      in
      if isDeclared == [ ] then
        mergeDeclarations here found
      else if builtins.length found == 1 then
        (builtins.head found).value // { declarations = [ (builtins.head found).file ]; }
      else if builtins.length (filter (tree: tree.value ? type) isDeclared) == 1 then
        # A declaration without a type adds to the other, as nixvm does with networking.hostName.
        builtins.foldl' (all: tree: all // tree.value) { } isDeclared
      else
        throw "the option `${showOption here}` is declared by ${showFiles found}"
    ) (map (tree: mapAttrs (_: value: { inherit (tree) file; inherit value; }) tree.value) trees);

  moduleAttributes = [
    "_class"
    "_file"
    "config"
    "disabledModules"
    "freeformType"
    "imports"
    "key"
    "meta"
    "options"
  ];

  # Anything that may stand in `imports` -> { key, file, imports, options, config, freeformType, disabled }.
  loadModule =
    callWith: parent: position: module:
    let
      isFile = isPath module || isString module;
      fromFile = if isFile then import module else module;
      called = if lib.isFunction fromFile then callWith fromFile else fromFile;
      key = if isFile then toString module else called.key or "${parent}:${toString position}";
      file = called._file or (if isFile then toString module else parent);
      isLong = called ? config || called ? options;
      stray = removeAttrs called moduleAttributes;
    in
    if !isAttrs called then
      throw "the module `${toString key}` is a ${builtins.typeOf called}; a module is a set or a function that returns one"
    else if isLong && stray != { } then
      throw "the module `${file}` has `${builtins.head (attrNames stray)}` beside `config` or `options`; move it into `config`"
    else
      {
        inherit key file;
        imports = called.imports or [ ];
        options = called.options or { };
        config =
          if isLong then
            called.config or { }
          else
            removeAttrs called (lib.remove "meta" moduleAttributes);
        freeformType = called.freeformType or null;
        disabled = called.disabledModules or [ ];
      };

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      internal = {
        key = "module-system";
        options._module = {
          args = lib.mkOption {
            type = lib.types.lazyAttrsOf lib.types.raw;
            default = { };
          };
          check = lib.mkOption {
            type = lib.types.bool;
            default = true;
          };
          freeformType = lib.mkOption {
            type = lib.types.raw;
            default = null;
          };
        };
      };
      args = {
        inherit config options lib;
      }
      // specialArgs;
      callWith =
        f: f (mapAttrs (name: _: args.${name} or internalResult.value._module.args.${name}) (lib.functionArgs f) // args);

      loadAll =
        parent: imports:
        imap0 (
          position: module:
          let
            loaded = loadModule callWith parent position module;
          in
          {
            inherit (loaded) key;
            inherit loaded;
          }
        ) imports;
      closure = map (entry: entry.loaded) (
        builtins.genericClosure {
          startSet = loadAll "modules" ([ internal ] ++ modules);
          operator = entry: loadAll entry.loaded.key entry.loaded.imports;
        }
      );
      disabled = map toString (concatMap (module: module.disabled) closure);
      loaded = filter (module: !(lib.any (name: lib.hasSuffix name (toString module.key)) disabled)) closure;

      declarations = mergeDeclarations prefix (
        map (module: {
          inherit (module) file;
          value = module.options;
        }) loaded
      );
      freeformTypes = filter (type: type != null) (
        map (module: module.freeformType) loaded ++ [ internalResult.value._module.freeformType ]
      );
      result = evalTree prefix (removeAttrs declarations [ "_module" ]) (
        if freeformTypes == [ ] then null else builtins.head freeformTypes
      ) (map (def: def // { value = withoutInternal def.value; }) definitions);
      internalResult = evalTree prefix { inherit (declarations) _module; } lib.types.raw (
        map (def: def // { value = onlyInternal def.value; }) definitions
      );
      definitions = map (module: {
        inherit (module) file;
        value = module.config;
      }) loaded;
      config = result.value // {
        _module = internalResult.value._module;
      };
      options = result.option;
    in
    {
      inherit config options;
      inherit (result) undeclared;
    };

  # `_module` is evaluated separately: the arguments of modules must not depend on definitions of those modules.
  splitProperty =
    f: value:
    if isType "merge" value then
      value // { contents = map (splitProperty f) value.contents; }
    else if isProperty value then
      value // { content = splitProperty f value.content; }
    else
      f value;
  withoutInternal = splitProperty (value: if isAttrs value then removeAttrs value [ "_module" ] else value);
  onlyInternal = splitProperty (
    value: if isAttrs value && value ? _module then { inherit (value) _module; } else { }
  );

in
{
  inherit evalModules;
  # Renames are not followed: a definition under the old name is listed as not carried out.
  mkRemovedOptionModule = _: _: { };
  mkRenamedOptionModule = _: _: { };
  mkAliasOptionModule = _: _: { };
}
