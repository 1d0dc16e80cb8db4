# Networks, by systemd-networkd.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.systemd.network;
  units = import ./unit-options.nix { inherit lib pkgs; };

  settings = mkOption {
    type = types.attrs;
    default = { };
    description = "Settings of the section; a list gives a line for each element.";
  };
  names = mkOption {
    type = types.listOf types.str;
    default = [ ];
    description = "Values, a line each.";
  };
  repeated = mkOption {
    type = types.listOf types.attrs;
    default = [ ];
    description = "Settings of a section that may come several times.";
  };

  # option -> section of the file
  networkSections = {
    matchConfig = "Match";
    linkConfig = "Link";
    networkConfig = "Network";
    dhcpV4Config = "DHCPv4";
    dhcpV6Config = "DHCPv6";
    dhcpPrefixDelegationConfig = "DHCPPrefixDelegation";
    ipv6AcceptRAConfig = "IPv6AcceptRA";
    dhcpServerConfig = "DHCPServer";
    bridgeConfig = "Bridge";
  };
  networkLists = {
    addresses = "Address";
    routes = "Route";
    routingPolicyRules = "RoutingPolicyRule";
  };
  # option -> setting of [Network]
  networkNames = {
    address = "Address";
    bridge = "Bridge";
    dns = "DNS";
    domains = "Domains";
    gateway = "Gateway";
    macvlan = "MACVLAN";
    ntp = "NTP";
    vlan = "VLAN";
  };
  linkSections = {
    matchConfig = "Match";
    linkConfig = "Link";
  };
  netdevSections = {
    netdevConfig = "NetDev";
    vlanConfig = "VLAN";
    bridgeConfig = "Bridge";
    bondConfig = "Bond";
    wireguardConfig = "WireGuard";
  };

  enable = mkOption {
    type = types.bool;
    default = true;
    description = "Whether the file is there.";
  };
  declare =
    options:
    mkOption {
      type = types.attrsOf (types.submodule { options = { inherit enable; } // options; });
      default = { };
      description = "Files of systemd-networkd, by name.";
    };

  sectionsOf =
    sections: unit:
    lib.concatMapStringsSep "\n" (option: units.section sections.${option} unit.${option}) (
      lib.filter (option: unit.${option} != { }) (lib.attrNames sections)
    );
  networkText =
    unit:
    let
      plain = lib.filterAttrs (_: v: v != [ ]) (
        lib.mapAttrs' (option: setting: lib.nameValuePair setting unit.${option}) networkNames
      );
      named =
        plain
        // lib.optionalAttrs (unit.DHCP != null) { DHCP = unit.DHCP; }
        // lib.optionalAttrs (unit.name != null) { };
      match = unit.matchConfig // lib.optionalAttrs (unit.name != null) { Name = unit.name; };
    in
    sectionsOf networkSections (
      unit
      // {
        matchConfig = match;
        networkConfig = named // unit.networkConfig;
      }
    )
    + lib.concatStrings (
      lib.mapAttrsToList (
        option: section: lib.concatMapStrings (set: "\n" + units.section section set) unit.${option}
      ) networkLists
    );
  files =
    suffix: toText: set:
    lib.mapAttrs' (
      name: unit:
      lib.nameValuePair "systemd/network/${name}.${suffix}" {
        inherit (unit) enable;
        text = toText unit;
      }
    ) set;
in
{
  options = {
    networking.useNetworkd = mkOption {
      type = types.bool;
      default = false;
      description = "Whether systemd-networkd sets up the network; the base knows no other way.";
    };
    networking.useDHCP = mkOption {
      type = types.bool;
      default = false;
      description = "Whether every card asks for an address by DHCP.";
    };
    networking.enableIPv6 = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the kernel speaks IPv6.";
    };
    systemd.network = {
      enable = mkOption {
        type = types.bool;
        default = config.networking.useNetworkd || config.networking.useDHCP;
        description = "Whether systemd-networkd runs.";
      };
      wait-online.enable = mkOption {
        type = types.bool;
        default = true;
        description = "Whether network-online.target waits for a network; a boot waits only if a unit asks for that target.";
      };
      wait-online.anyInterface = mkOption {
        type = types.bool;
        default = true;
        description = "Whether one card is enough.";
      };
      networks = declare (
        lib.mapAttrs (_: _: settings) networkSections
        // lib.mapAttrs (_: _: repeated) networkLists
        // lib.mapAttrs (_: _: names) networkNames
        // {
          name = mkOption {
            type = types.nullOr types.str;
            default = null;
            description = "Name of the card.";
          };
          DHCP = mkOption {
            type = types.nullOr types.str;
            default = null;
            description = "Whether to ask for an address.";
          };
        }
      );
      links = declare (lib.mapAttrs (_: _: settings) linkSections);
      netdevs = declare (lib.mapAttrs (_: _: settings) netdevSections);
    };
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      environment.etc =
        files "network" networkText cfg.networks
        // files "link" (sectionsOf linkSections) cfg.links
        // files "netdev" (sectionsOf netdevSections) cfg.netdevs;
      systemd.enabledUnits = {
        "multi-user.target" = [ "systemd-networkd.service" ];
        "sockets.target" = [ "systemd-networkd.socket" ];
        "network-online.target" = lib.optional cfg.wait-online.enable "systemd-networkd-wait-online.service";
      };
      systemd.services.systemd-networkd-wait-online = lib.mkIf (cfg.wait-online.enable && cfg.wait-online.anyInterface) {
        overrideStrategy = "asDropin";
        serviceConfig.ExecStart = [
          ""
          "/usr/lib/systemd/systemd-networkd-wait-online --any"
        ];
      };
    })
    (lib.mkIf config.networking.useDHCP {
      systemd.network.networks."99-dhcp" = {
        matchConfig.Type = "ether";
        networkConfig.DHCP = "yes";
      };
    })
    (lib.mkIf (!config.networking.enableIPv6) { boot.kernelParams = [ "ipv6.disable=1" ]; })
  ];
}
