# Strings and paths.
{ lists }:
let
  inherit (builtins)
    concatStringsSep
    filter
    genList
    isString
    match
    replaceStrings
    stringLength
    substring
    ;
in
rec {
  inherit (builtins)
    baseNameOf
    compareVersions
    concatStringsSep
    dirOf
    fromJSON
    fromTOML
    hashString
    match
    parseDrvName
    readFile
    replaceStrings
    split
    splitVersion
    storeDir
    stringLength
    substring
    toString
    typeOf
    unsafeDiscardStringContext
    ;

  concatStrings = concatStringsSep "";
  concatMapStrings = f: xs: concatStrings (map f xs);
  concatMapStringsSep =
    separator: f: xs:
    concatStringsSep separator (map f xs);
  concatImapStringsSep =
    separator: f: xs:
    concatStringsSep separator (lists.imap1 f xs);
  concatMapAttrsStringSep =
    separator: f: set:
    concatStringsSep separator (map (name: f name set.${name}) (builtins.attrNames set));
  concatLines = concatMapStrings (line: line + "\n");
  intersperse = separator: xs: lists.drop 1 (builtins.concatMap (x: [ separator x ]) xs);
  join = concatStringsSep;
  optionalString = condition: string: if condition then string else "";
  replicate = n: string: concatStrings (genList (_: string) n);

  stringToCharacters = string: genList (n: substring n 1 string) (stringLength string);
  hasPrefix = prefix: string: substring 0 (stringLength prefix) string == prefix;
  hasSuffix =
    suffix: string:
    let
      start = stringLength string - stringLength suffix;
    in
    start >= 0 && substring start (stringLength suffix) string == suffix;
  hasInfix = infix: string: replaceStrings [ infix ] [ "" ] "${string}" != "${string}" || infix == "";
  removePrefix =
    prefix: string:
    if hasPrefix prefix string then substring (stringLength prefix) (stringLength string) string else string;
  removeSuffix =
    suffix: string:
    if hasSuffix suffix string then substring 0 (stringLength string - stringLength suffix) string else string;
  splitString =
    separator: string: filter isString (builtins.split (escapeRegex separator) (toString string));
  trim =
    string:
    let
      found = match "[[:space:]]*(.*[^[:space:]])[[:space:]]*" string;
    in
    if found == null then "" else builtins.head found;
  fileContents = path: removeSuffix "\n" (builtins.readFile path);

  lower = stringToCharacters "abcdefghijklmnopqrstuvwxyz";
  upper = stringToCharacters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  toLower = replaceStrings upper lower;
  toUpper = replaceStrings lower upper;
  toInt =
    string:
    let
      value = builtins.fromJSON string;
    in
    if builtins.isInt value then value else throw "`${string}` is not an integer";
  fixedWidthString =
    width: filler: string:
    if stringLength string >= width then string else fixedWidthString width filler (filler + string);
  fixedWidthNumber = width: number: fixedWidthString width "0" (toString number);

  escape = characters: replaceStrings characters (map (c: "\\" + c) characters);
  escapeRegex = escape (stringToCharacters "\\[{()^$?*+|.");
  escapeShellArg =
    value:
    let
      string = toString value;
    in
    if match "[a-zA-Z0-9,._+:@%/-]+" string != null then string else "'${replaceStrings [ "'" ] [ "'\\''" ] string}'";
  escapeShellArgs = xs: concatStringsSep " " (map escapeShellArg xs);
  escapeNixString = string: escape [ "$" ] (builtins.toJSON string);
  escapeXML = replaceStrings [ "\"" "'" "<" ">" "&" ] [ "&quot;" "&apos;" "&lt;" "&gt;" "&amp;" ];
  # systemd.unit(5): specifiers and variables that a value must not start.
  escapeSystemdExecArg = value: builtins.toJSON (replaceStrings [ "%" "$" ] [ "%%" "$$" ] (toString value));
  escapeSystemdExecArgs = xs: concatStringsSep " " (map escapeSystemdExecArg xs);
  toShellVar = name: value: "${name}=${escapeShellArg value}";

  isStringLike = value: isString value || builtins.isPath value || value ? outPath || value ? __toString;
  isStorePath = value: isStringLike value && builtins.dirOf (toString value) == builtins.storeDir;
  hasAttrName = name: builtins.hasAttr name;
  versionOlder = version: than: builtins.compareVersions than version == 1;
  versionAtLeast = version: least: !versionOlder version least;
  versions = {
    majorMinor = version: concatStringsSep "." (lists.take 2 (builtins.splitVersion version));
    major = version: builtins.head (builtins.splitVersion version);
  };
  getName = package: package.pname or (builtins.parseDrvName (package.name or package)).name;
  getVersion = package: package.version or (builtins.parseDrvName (package.name or package)).version;
  nameFromURL = url: separator: builtins.head (splitString separator (lists.last (splitString "/" url)));
  sanitizeDerivationName = name: concatStringsSep "-" (filter isString (builtins.split "[^[:alnum:]+._?=-]+" name));

  makeSearchPath = folder: packages: concatStringsSep ":" (map (package: "${package}/${folder}") packages);
  makeSearchPathOutput = _: makeSearchPath;
  makeBinPath = makeSearchPath "bin";
  makeLibraryPath = makeSearchPath "lib";
  getExe = package: getExe' package (package.meta.mainProgram or (getName package));
  getExe' = package: program: "${package}/bin/${program}";

  cleanSource = source: source;
  cleanSourceWith = { src, filter ? (_: _: true), name ? "source" }: builtins.path {
    path = src;
    inherit filter name;
  };
}
