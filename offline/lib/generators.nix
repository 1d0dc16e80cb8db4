# Texts in common formats.
{ lib }:
rec {
  mkValueStringDefault = _: value: if builtins.isBool value then lib.boolToString value else toString value;
  mkKeyValueDefault =
    {
      mkValueString ? mkValueStringDefault { },
    }:
    separator: key: value:
    "${key}${separator}${mkValueString value}";
  toKeyValue =
    {
      mkKeyValue ? mkKeyValueDefault { } "=",
      listsAsDuplicateKeys ? false,
      indent ? "",
    }:
    set:
    lib.concatStrings (
      lib.concatLists (
        lib.mapAttrsToList (
          key: value:
          map (v: indent + mkKeyValue key v + "\n") (if listsAsDuplicateKeys then lib.toList value else [ value ])
        ) set
      )
    );
  toINI =
    {
      mkKeyValue ? mkKeyValueDefault { } "=",
      listsAsDuplicateKeys ? false,
      mkSectionName ? lib.id,
    }:
    sections:
    lib.concatStringsSep "\n" (
      lib.mapAttrsToList (
        name: set: "[${mkSectionName name}]\n" + toKeyValue { inherit mkKeyValue listsAsDuplicateKeys; } set
      ) sections
    );
  toJSON = _: builtins.toJSON;
  toYAML = _: builtins.toJSON; # JSON is YAML
  toPretty = _: builtins.toJSON;
}
