# The modules of every nixvm guest, one subject a file. A profile adds to these and removes nothing.
{
  imports = [
    ./options.nix
    ./per-machine.nix
    ./fixed.nix
    ./immutable.nix
    ./root.nix
    ./boot.nix
    ./sharing.nix
    ./data.nix
    ./persist.nix
    ./identity.nix
    ./machine.nix
    ./network.nix
    ./guest.nix
    ./clock.nix
    ./lean.nix
    ./moved.nix
    ./refuse
  ];
}
