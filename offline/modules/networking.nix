# Host name, hosts, and the names that resolve. nixvm's own modules write /etc/hostname and /etc/hosts.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.networking;
in
{
  options.networking = {
    hostName = mkOption {
      type = types.strMatching "|[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?";
      default = "debian";
      description = "The host name.";
    };
    domain = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The domain the host name is in.";
    };
    hosts = mkOption {
      type = types.attrsOf (types.listOf types.str);
      default = { };
      description = "Names by address, for /etc/hosts.";
    };
    hostFiles = mkOption {
      type = types.listOf types.path;
      description = "Files of which /etc/hosts consists.";
    };
    extraHosts = mkOption {
      type = types.lines;
      default = "";
      description = "Further lines of /etc/hosts.";
    };
    nameservers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Addresses of name servers, where no module writes resolv.conf itself.";
    };
    search = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Domains to look in.";
    };
    timeServers = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Servers of timesyncd; without any it asks those that Debian names.";
    };
  };

  config.networking.hostFiles = lib.mkBefore [
    (pkgs.writeText "hosts" ''
      127.0.0.1 localhost
      ::1 localhost
      ${lib.concatLines (lib.mapAttrsToList (address: names: "${address} ${lib.concatStringsSep " " names}") cfg.hosts)}
      ${cfg.extraHosts}
    '')
  ];
  config.environment.etc = {
    "resolv.conf".text = lib.mkDefault (
      lib.concatMapStrings (address: "nameserver ${address}\n") cfg.nameservers
      + lib.optionalString (cfg.search != [ ]) "search ${lib.concatStringsSep " " cfg.search}\n"
    );
    "nsswitch.conf".text = ''
      passwd: files
      group: files
      shadow: files
      hosts: files dns
      networks: files
      services: files
      protocols: files
      rpc: files
      ethers: files
    '';
  };
}
