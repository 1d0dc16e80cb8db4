{
  description = "My virtual machines";

  inputs = {
    # Where your nixvm is: a clone on this machine, or the URL it came from. It is a URL: write a space as %20.
    nixvm.url = "git+file:///path/to/nixvm";
    nixvm.inputs.nixpkgs.follows = "nixpkgs";

    # What the machines are built from; `nixvm --nixpkgs` and quickstart's choice replace it.
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

    # The rendered machines. nixvm overrides this at every build; by itself the workspace has none.
    machines = {
      follows = "nixvm/machines";
      flake = false;
    };
  };

  outputs =
    { nixvm, machines, ... }:
    nixvm.lib.mkWorkspace {
      inherit machines;
      profiles = ./profiles;
    };
}
