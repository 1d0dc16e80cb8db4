# What every nixvm guest is made of. One subject a file; a profile adds to these and takes nothing away.
{
  imports = [
    ./options.nix
    ./fixed.nix
    ./immutable.nix
    ./root.nix
    ./boot.nix
    ./sharing.nix
    ./data.nix
    ./persist.nix
    ./identity.nix
    ./network.nix
    ./guest.nix
    ./clock.nix
    ./lean.nix
    ./moved.nix
    ./refuse
  ];
}
