{
  description = "Debian trixie in the shape of nixpkgs: what nixvm builds guests from where no binary cache can be reached";

  # `offline/prepare` puts this flake into ~/.cache/nixvm/offline with packages.json, which it needs.
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
    # nixpkgs' module for a given, fixed package set; ours is always fixed.
    nixosModules.readOnlyPkgs = { };
  };
}
