# The modules whose options the offline base has: continuous integration evaluates these in every run.
{
  works = [
    "nothing"
    "onOwnFileSystem"
    "ownFileSystem"
    "persist"
    "timer"
    "tmpfiles"
    "users"
  ];
  refused = [
    "bootLoader"
    "configurationFolder"
    "fileSystemBelowEtc"
    "home"
    "homeOfANormalUser"
    "homeManager"
    "mutableEtc"
    "mutableUsers"
    "nix"
    "nixWithoutForce"
    "persistOfTheStore"
    "persistOfTheSystem"
    "persistOfVar"
    "persistOverEntries"
    "readWritePaths"
    "resolvconf"
    "resolved"
    "swapFile"
    "tmpfilesEtc"
    "tmpfilesLink"
    "tmpfilesOwner"
    "tmpfilesRule"
    "tmpfilesSettings"
    "workingFolder"
  ];
}
