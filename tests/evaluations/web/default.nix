import ../../golden/machine.nix
