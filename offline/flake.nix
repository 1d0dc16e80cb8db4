{
  description = "Debian trixie in the shape of nixpkgs: what nixvm builds guests from where no binary cache can be reached";

  # `offline/prepare` puts this flake into ~/.cache/nixvm/offline with packages.json, which it cannot do without.
  outputs = _: rec {
    lib = import ./lib // {
      nixosSystem = import ./system.nix { inherit legacyPackages; };
    };
    legacyPackages = builtins.listToAttrs (
      map (system: {
        name = system;
        value = import ./. { inherit system; };
      }) lib.systems.flakeExposed
    );
    # nixpkgs' module for a package set that is given and stays as it is; ours always does.
    nixosModules.readOnlyPkgs = { };
  };
}
