{
  description = "nixvm: immutable NixOS virtual machines on libvirt, from folders of small text files";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

    # The rendered machines. The tracked default holds none; nixvm overrides it with the folder it renders to. Never
    # `path:./machines`: that folder holds keys, and Nix copies an input to the store, where everyone can read it.
    machines = {
      url = "path:./nix/no-machines";
      flake = false;
    };
  };

  outputs =
    {
      nixpkgs,
      machines,
      ...
    }:
    let
      mkWorkspace = import ./nix/workspace.nix { inherit nixpkgs; };
    in
    mkWorkspace { inherit machines; }
    // {
      # For a workspace that is not this repository; templates/workspace shows its use.
      lib = { inherit mkWorkspace; };

      templates.default = {
        path = ./templates/workspace;
        description = "A workspace for nixvm: profiles and machines of your own";
      };
    };
}
