# The firewall, with nftables: it lets in only answers, pings and the named ports.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.networking.firewall;

  ports = mkOption {
    type = types.listOf types.port;
    default = [ ];
    apply = list: lib.sort builtins.lessThan (lib.unique list);
    description = "Open ports.";
  };
  ranges = mkOption {
    type = types.listOf (
      types.submodule {
        options = {
          from = mkOption {
            type = types.port;
            description = "First port.";
          };
          to = mkOption {
            type = types.port;
            description = "Last port.";
          };
        };
      }
    );
    default = [ ];
    description = "Open ranges of ports.";
  };
  portOptions = {
    allowedTCPPorts = ports;
    allowedUDPPorts = ports;
    allowedTCPPortRanges = ranges;
    allowedUDPPortRanges = ranges;
  };
  flag =
    default: description:
    mkOption {
      type = types.bool;
      inherit default description;
    };

  set = list: ranges: map toString list ++ map (range: "${toString range.from}-${toString range.to}") ranges;
  accept =
    match: protocol: list:
    lib.optionalString (list != [ ]) "${match}${protocol} dport { ${lib.concatStringsSep ", " list} } accept";
  allow =
    match: from:
    lib.concatStringsSep "\n    " (
      lib.filter (line: line != "") [
        (accept match "tcp" (set from.allowedTCPPorts from.allowedTCPPortRanges))
        (accept match "udp" (set from.allowedUDPPorts from.allowedUDPPortRanges))
      ]
    );

  rules = pkgs.writeText "firewall.nft" ''
    table inet nixos-fw
    delete table inet nixos-fw
    table inet nixos-fw {
      chain input {
        type filter hook input priority filter; policy drop;
        iifname { ${lib.concatMapStringsSep ", " builtins.toJSON ([ "lo" ] ++ cfg.trustedInterfaces)} } accept
        ct state vmap { invalid : drop, established : accept, related : accept }
        ${lib.optionalString cfg.allowPing "icmp type echo-request accept"}
        icmpv6 type != { nd-redirect, 139 } accept
        ip6 daddr fe80::/64 udp dport 546 accept
        ${allow "" cfg}
        ${lib.concatStringsSep "\n    " (
          lib.mapAttrsToList (name: allow "iifname ${builtins.toJSON name} ") cfg.interfaces
        )}
        ${cfg.extraInputRules}
        ${lib.optionalString cfg.rejectPackets "meta l4proto tcp reject with tcp reset\n    reject"}
      }
    }
  '';
in
{
  options.networking = {
    firewall = portOptions // {
      enable = flag true "Whether there is a firewall.";
      allowPing = flag true "Whether pings are answered.";
      rejectPackets = flag false "Whether refused packets get an answer.";
      trustedInterfaces = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Cards from which everything may come in.";
      };
      interfaces = mkOption {
        type = types.attrsOf (types.submodule { options = portOptions; });
        default = { };
        description = "Ports that are open on one card.";
      };
      extraInputRules = mkOption {
        type = types.lines;
        default = "";
        description = "Further rules of nft(8), before the last one.";
      };
    };
    nftables.enable = flag true "Always on: there is no other firewall here.";
  };

  config.systemd.services.firewall = lib.mkIf cfg.enable {
    description = "Firewall";
    wantedBy = [ "sysinit.target" ];
    wants = [ "network-pre.target" ];
    before = [
      "network-pre.target"
      "shutdown.target"
    ];
    after = [ "systemd-modules-load.service" ];
    conflicts = [ "shutdown.target" ];
    unitConfig.DefaultDependencies = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      ExecStart = "/usr/sbin/nft -f ${rules}";
      ExecReload = "/usr/sbin/nft -f ${rules}";
    };
  };
}
