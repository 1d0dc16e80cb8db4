# Why: nothing that NixOS would do is lost in silence (promise 14). What an immutable guest cannot carry out is refused by
# name while it is built, with the way to have it; docs/immutable.md lists it all.
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
