# Tests which profiles are evaluated once for all their machines, and that a machine's values are the same either way.
# `nix eval --impure --raw --file tests/evaluations --apply 'f: f { nixpkgs = "/some/nixpkgs"; }'` prints the number of tests, or
# the failed ones. On the offline base it leaves out tests that need NixOS's own options.
{
  # The path of a nixpkgs, or of the offline base.
  nixpkgs,
}:
let
  inherit (import ../nixpkgs.nix nixpkgs) isNixos lib nixosSystem profileFiles;
  pkgs = import nixpkgs {
    system = builtins.currentSystem;
    config.allowUnfree = true;
  };
  core = ../../profiles/core.nix;

  # NAME = a profile whose machines share.
  shared =
    lib.mapAttrs (_: file: { imports = [ file ]; }) profileFiles
    // {
      "a key for all machines".nixvm.adminKeys = [ "ssh-ed25519 AAAA team" ];
      "a port for all machines".nixvm.tcpPorts = [ 9100 ];
      "a port in the ruleset".networking.firewall.allowedTCPPorts = [ 9100 ];
      "a domain".networking.domain = "example.org";
      "a host in /etc/hosts".networking.hosts."192.0.2.1" = [ "other" ];
    }
    // lib.optionalAttrs isNixos {
      "nftables".networking.nftables.enable = true;
      "a web server".services.nginx = {
        enable = true;
        virtualHosts."example.org" = { };
      };
    };

  # NAME = { profile; value; is; }: a profile whose machines do not share, and a value of `web` that proves that nothing is wrong.
  separate = {
    "the host name in a file" = {
      profile = { config, ... }: { environment.etc.who.text = config.networking.hostName; };
      value = config: config.environment.etc.who.text;
      is = "Web-1";
    };
    "a condition on the host name" = {
      profile =
        { config, lib, ... }:
        {
          environment.etc = lib.mkIf (config.networking.hostName == "Web-1") { who.text = "web"; };
        };
      value = config: config.environment.etc.who.text;
      is = "web";
    };
    "a machine's ports" = {
      profile = { config, ... }: { environment.etc.who.text = toString config.nixvm.tcpPorts; };
      value = config: config.environment.etc.who.text;
      is = "22 80 443";
    };
    "an assertion that fails" = {
      profile.assertions = [
        {
          assertion = false;
          message = "not like this";
        }
      ];
      value = config: lib.concatMapStrings (entry: lib.optionalString (!entry.assertion) entry.message) config.assertions;
      is = "not like this";
    };
  }
  // lib.optionalAttrs isNixos {
    "the full host name" = {
      profile =
        { config, ... }:
        {
          networking.domain = "example.org";
          environment.etc.who.text = config.networking.fqdn;
        };
      value = config: config.environment.etc.who.text;
      is = "Web-1.example.org";
    };
    "a virtual host of the machine's name" = {
      profile =
        { config, ... }:
        {
          services.nginx.enable = true;
          services.nginx.virtualHosts.${config.networking.hostName} = { };
        };
      value = config: toString (lib.attrNames config.services.nginx.virtualHosts);
      is = "Web-1";
    };
    "avahi" = {
      profile.services.avahi.enable = true;
      value = config: config.services.avahi.hostName;
      is = "Web-1";
    };
    "firewalld, which reads no file of the machine's" = {
      profile.services.firewalld.enable = true;
      profile.networking.firewall.backend = "firewalld";
      value = config: toString config.networking.firewall.allowedTCPPorts;
      is = "22 80 443";
    };
  };

  evaluations = import ../../nix/evaluations.nix {
    inherit lib;
    profileFiles = lib.mapAttrs (name: profile: {
      imports = [
        core
        profile
      ];
      # The rendered module of the tests' machine names another one.
      nixvm.profile = lib.mkForce name;
    }) (shared // lib.mapAttrs (_: case: case.profile) separate);
    evaluate =
      modules:
      nixosSystem {
        specialArgs.profiles = profileFiles;
        modules = [
          ../../modules
          { nixpkgs.pkgs = pkgs; }
        ]
        ++ modules;
      };
  };
  profiles = lib.mapAttrs (name: _: evaluations.profile name) (shared // separate);
  machine = name: evaluations.machine profiles.${name} name;
  web = name: machine name ./web;
  edited = name: machine name ./edited;

  # What image.nix writes to the machine's disk. Keys of profile and machine may come in another order.
  written = values: {
    inherit (values.networking) hostName;
    adminKeys = lib.sort builtins.lessThan values.nixvm.adminKeys;
    inherit (values.nixvm)
      digest
      generation
      machine
      machineId
      resolvConf
      rootPasswordHash
      tcpPorts
      udpPorts
      userKeys
      ;
  };
  toplevel = machine: machine.config.system.build.toplevel.drvPath;
  rendered = import ../golden/machine.nix;

  check = name: holds: lib.optional (!holds) name;
  failed =
    lib.concatLists (lib.mapAttrsToList (name: _: check "${name}: its machines do not share" (web name).shares) shared)
    ++ lib.concatLists (
      lib.mapAttrsToList (
        name:
        { value, is, ... }:
        check "${name}: its machines share" (!(web name).shares)
        ++ check "${name}: the value is ${value (web name).config}" (value (web name).config == is)
      ) separate
    )
    # A machine with an extra.nix is evaluated by itself: all values come from the whole system.
    ++ lib.concatMap (
      name:
      check "${name}: a shared machine has other values" (
        written (web name).values == written (edited name).values && !(edited name).shares
      )
      ++ check "${name}: an extra.nix that changes nothing changes the system" (
        toplevel (web name) == toplevel (edited name)
      )
    ) ([ "core" "a key for all machines" "a port for all machines" ] ++ lib.optional isNixos "nftables")
    ++ check "the rendered values do not arrive" (
      let
        inherit (web "core") values;
        seen = written values // {
          inherit (values.nixvm) adminKeys;
        };
      in
      seen == seen // removeAttrs rendered.nixvm [ "profile" ] // { inherit (rendered.networking) hostName; }
    )
    ++ check "the profile's key is not added" (
      lib.elem "ssh-ed25519 AAAA team" (web "a key for all machines").values.nixvm.adminKeys
      && lib.length (web "a key for all machines").values.nixvm.adminKeys == lib.length rendered.nixvm.adminKeys + 1
    )
    ++ check "the profile's port is not added" (
      (web "a port for all machines").values.nixvm.tcpPorts == [
        22
        80
        443
        9100
      ]
    );
in
if failed == [ ] then
  "${toString (lib.length (lib.attrNames (shared // separate)))} profiles are evaluated as they should be\n"
else
  throw "not as expected:\n${lib.concatStringsSep "\n" failed}"
