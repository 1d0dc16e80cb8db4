# Why: machines of a profile differ in a few names, keys and ports only. These are files on the machine's own disk, below
# /nix/.delta/machine, and /etc leads to them by the same links in all machines. So all machines of a profile are one system,
# which Nix evaluates and builds once.
#
# nix/image.nix writes the files. In the evaluation that the machines share (`nixvm.isShared`), whatever reads an option that
# differs between them throws, so no machine ever gets a wrong value; nix/evaluations.nix then evaluates each machine
# of that profile separately.
{
  config,
  lib,
  modulesPath,
  options,
  pkgs,
  ...
}:
let
  cfg = config.nixvm;
  inherit (config) networking;
  inherit (networking) firewall;
  folder = "/nix/.delta/machine";
  # Stronger than NixOS's definitions, and weaker than mkForce.
  link = name: lib.mkOverride 60 { source = "${folder}/${name}"; };

  # Two of NixOS's modules put the host name into /etc/hostname and /etc/hosts, under conditions that read it. The module system
  # evaluates the conditions of a definition before the definition loses, so the definition itself must go. If a newer NixOS has
  # it elsewhere, nothing is removed, the reading throws, and machines no longer share, which tests/sharing.nix notices.
  without =
    name: path: file:
    let
      module = import file;
      adapt =
        args:
        let
          made = module args;
        in
        made
        // {
          _file = file;
        }
        // lib.optionalAttrs (lib.hasAttrByPath ([ "config" ] ++ path ++ [ name ]) made) {
          config = lib.updateManyAttrsByPath [
            {
              inherit path;
              update = definitions: removeAttrs definitions [ name ];
            }
          ] made.config;
        };
    in
    lib.setFunctionArgs adapt (lib.functionArgs module);
  replaced = lib.filterAttrs (file: _: builtins.pathExists "${modulesPath}/${file}") {
    "config/networking.nix" = without "hosts" [ "networking" ];
    "tasks/network-interfaces.nix" = without "hostname" [
      "environment"
      "etc"
    ];
  };

  backend = firewall.backend or (if networking.nftables.enable then "nftables" else "iptables");
in
{
  disabledModules = lib.attrNames replaced;
  imports = lib.mapAttrsToList (file: without: without "${modulesPath}/${file}") replaced;

  # A second declaration of NixOS's option, which only adds the refusal.
  options.networking.hostName = lib.mkOption { apply = cfg.perMachine "networking.hostName"; };

  config = {
    # NixOS's default is the host name.
    system.name = lib.mkDefault "nixvm-${cfg.profile}";
    networking.hostName = lib.mkDefault "nixvm";
    # For the first lines of the journal. The whole entry, because a definition of its text alone would read NixOS's, too.
    boot.initrd.systemd.contents."/etc/hostname" = lib.mkForce { text = "nixvm\n"; };

    environment.etc = lib.genAttrs [
      "hostname"
      "hosts"
      "machine-id"
      "nixvm-release"
      "resolv.conf"
    ] link;
    nixvm.image.hosts = lib.mkDefault (
      pkgs.runCommand "hosts" { } "cat ${toString networking.hostFiles} > $out"
    );

    networking.firewall =
      lib.optionalAttrs (options.networking.firewall ? extraCommands) {
        extraCommands = lib.mkIf (backend == "iptables") ''
          if [ -r ${folder}/ports ]; then
            while read -r protocol port; do
              ip46tables -A nixos-fw -p "$protocol" --dport "$port" -j nixos-fw-accept
            done < ${folder}/ports
          fi
        '';
      }
      // {
        # A pattern, because it is no error if it matches nothing: where Nix checks the ruleset, and on a damaged disk.
        extraInputRules = lib.mkIf (backend == "nftables") ''include "${folder}/nftables.d/*.nft"'';
        # firewalld reads no file of the machine's, so its machines do not share.
        allowedTCPPorts = lib.mkIf (backend == "firewalld") cfg.tcpPorts;
        allowedUDPPorts = lib.mkIf (backend == "firewalld") cfg.udpPorts;
      };
    # The check looks up names, and the link leads nowhere there. A definition replaces the option's whole default.
    networking.nftables = lib.optionalAttrs (options.networking.nftables ? checkRulesetRedirects) {
      checkRulesetRedirects = {
        "/etc/hosts" = cfg.image.hosts;
        "/etc/protocols" = config.environment.etc.protocols.source;
        "/etc/services" = config.environment.etc.services.source;
      };
    };
  };
}
