{
  description = "My virtual machines";

  inputs = {
    nixvm.url = "github:OWNER/nixvm";

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
