{
  description = "My virtual machines";

  inputs = {
    # Where your nixvm is: a clone on this machine, or the URL it came from.
    nixvm.url = "git+file:///path/to/nixvm";

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
