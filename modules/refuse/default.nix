# Why: nothing that NixOS would do is lost in silence (promise 14). If an immutable guest cannot carry out a setting, the
# build refuses it by name and says what to use instead; docs/immutable.md lists all of them.
{
  imports = [
    ./accounts.nix
    ./activation.nix
    ./etc.nix
    ./mounts.nix
    ./nix.nix
    ./resolv.nix
    ./services.nix
    ./tmpfiles.nix
    ./units.nix
  ];
}
