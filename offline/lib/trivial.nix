# Functions, warnings and versions.
rec {
  # Debian's release, where nixpkgs has its own.
  release = "13";
  version = release;
  versionSuffix = "";
  revisionWithDefault = default: default;

  id = x: x;
  const = x: _: x;
  flip =
    f: a: b:
    f b a;
  pipe = builtins.foldl' (x: f: f x);
  and = x: y: x && y;
  or = x: y: x || y;
  boolToString = b: if b then "true" else "false";
  boolToYesNo = b: if b then "yes" else "no";
  mapNullable = f: a: if a == null then a else f a;
  defaultTo = default: a: if a == null then default else a;
  min = a: b: if a < b then a else b;
  max = a: b: if a > b then a else b;
  mod = a: b: a - b * (a / b);
  compare =
    a: b:
    if a < b then
      -1
    else if a > b then
      1
    else
      0;
  importJSON = path: builtins.fromJSON (builtins.readFile path);
  importTOML = path: builtins.fromTOML (builtins.readFile path);

  functionArgs = f: if builtins.isAttrs f && f ? __functor then f.__functionArgs or { } else builtins.functionArgs f;
  isFunction = f: builtins.isFunction f || (builtins.isAttrs f && f ? __functor);
  setFunctionArgs = f: args: {
    __functor = _: f;
    __functionArgs = args;
  };
  inherit (builtins)
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isPath
    isString
    toJSON
    pathExists
    readFile
    add
    sub
    lessThan
    seq
    deepSeq
    bitAnd
    bitOr
    bitXor
    ;
  toHexString =
    n:
    let
      digits = "0123456789ABCDEF";
      digit = builtins.substring (mod n 16) 1 digits;
    in
    if n < 16 then digit else toHexString (n / 16) + digit;

  warn = message: builtins.trace "warning: ${message}";
  warnIf = condition: message: if condition then warn message else id;
  warnIfNot = condition: warnIf (!condition);
  throwIf = condition: message: if condition then throw message else id;
  throwIfNot = condition: throwIf (!condition);
  assertMsg = condition: message: condition || throw message;
  assertOneOf =
    name: value: allowed:
    assertMsg (builtins.elem value allowed) "${name} is ${builtins.toJSON value}; it has to be one of ${builtins.toJSON allowed}";
  traceVal = x: builtins.trace x x;
  traceValSeq = x: builtins.trace (builtins.deepSeq x x) x;

  fix =
    f:
    let
      x = f x;
    in
    x;
  extends =
    overlay: f: final:
    let
      previous = f final;
    in
    previous // overlay final previous;
  composeManyExtensions = overlays: final: previous: builtins.foldl' (acc: o: acc // o final acc) previous overlays;
  makeOverridable = f: args: f args // { override = changes: makeOverridable f (args // changes); };
}
