# A web server, with Debian's nginx: sites with files, redirects and backends over HTTP. TLS, modules and NixOS's other
# options are listed as not carried out.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.nginx;

  orNull =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  lines =
    description:
    mkOption {
      type = types.lines;
      default = "";
      inherit description;
    };

  location.options = {
    root = orNull types.path "Folder of the files.";
    alias = orNull types.path "Folder that stands for the location itself.";
    index = orNull types.str "Files that a folder is shown by.";
    tryFiles = orNull types.str "Files to look for, one after the other.";
    return = orNull (types.either types.int types.str) "Answer with this, and nothing else.";
    proxyPass = orNull types.str "Address that requests are handed on to.";
    extraConfig = lines "Further lines of the location.";
    priority = mkOption {
      type = types.int;
      default = 1000;
      description = "Place among the locations; the lowest is first.";
    };
  };

  listen.options = {
    addr = mkOption {
      type = types.str;
      example = "0.0.0.0";
      description = "Address; one of IPv6 in brackets.";
    };
    port = mkOption {
      type = types.port;
      default = 80;
      description = "TCP port.";
    };
    extraParameters = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further parameters of `listen`.";
    };
  };

  site =
    { name, ... }:
    {
      options = {
        serverName = mkOption {
          type = types.str;
          default = name;
          description = "Name that the site answers to.";
        };
        serverAliases = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Further names.";
        };
        listen = mkOption {
          type = types.listOf (types.submodule listen);
          default = [ ];
          description = "Where it listens; port 80 of all addresses if nothing is said.";
        };
        default = mkOption {
          type = types.bool;
          default = false;
          description = "Whether it answers to names that no site has.";
        };
        root = orNull types.path "Folder of its files.";
        locations = mkOption {
          type = types.attrsOf (types.submodule location);
          default = { };
          description = "What is said of a part of it.";
        };
        extraConfig = lines "Further lines of the site.";
      };
    };

  # A path is copied to the store, as in NixOS.
  line =
    name: value:
    lib.optionalString (value != null) "${name} ${if lib.isInt value then toString value else "${value}"};\n";

  showLocation = path: it: ''
    location ${path} {
    ${lib.concatStrings [
      (line "root" it.root)
      (line "alias" it.alias)
      (line "index" it.index)
      (line "try_files" it.tryFiles)
      (line "return" it.return)
      (line "proxy_pass" it.proxyPass)
    ]}
    ${it.extraConfig}
    }
  '';
  everywhere = map (addr: { inherit addr; port = 80; extraParameters = [ ]; }) [
    "0.0.0.0"
    "[::]"
  ];
  showListen =
    default: it:
    "listen ${it.addr}:${toString it.port}${lib.optionalString default " default_server"}${
      lib.concatMapStrings (parameter: " ${parameter}") it.extraParameters
    };\n";
  showSite =
    it:
    let
      locations = lib.sort (a: b: it.locations.${a}.priority < it.locations.${b}.priority) (lib.attrNames it.locations);
    in
    ''
      server {
      ${lib.concatMapStrings (showListen it.default) (if it.listen == [ ] then everywhere else it.listen)}
      server_name ${lib.concatStringsSep " " ([ it.serverName ] ++ it.serverAliases)};
      ${line "root" it.root}${lib.concatMapStrings (path: showLocation path it.locations.${path}) locations}
      ${it.extraConfig}
      }
    '';
in
{
  options.services.nginx = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether nginx runs.";
    };
    user = mkOption {
      type = types.str;
      default = "nginx";
      description = "Account of its workers.";
    };
    group = mkOption {
      type = types.str;
      default = "nginx";
      description = "Group of its workers.";
    };
    virtualHosts = mkOption {
      type = types.attrsOf (types.submodule site);
      default = { };
      description = "Sites, by name.";
    };
    commonHttpConfig = lines "Lines of `http`, before the sites.";
    appendHttpConfig = lines "Lines of `http`, after the sites.";
  };

  config = lib.mkIf cfg.enable {
    # Like NixOS's unit, and instead of Debian's, which waits for the network to be online and starts as root.
    systemd.services.nginx = {
      description = "Nginx web server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      serviceConfig = {
        # Log to the journal from the start, even before the configuration is read.
        ExecStart = "${pkgs.nginx}/bin/nginx -e stderr -g 'daemon off;'";
        ExecReload = "/usr/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = "10s";
        User = cfg.user;
        Group = cfg.group;
        AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
        # Debian's nginx was compiled for these.
        RuntimeDirectory = "nginx";
        StateDirectory = "nginx";
        LogsDirectory = "nginx";
        LogsDirectoryMode = "0750";
      };
    };
    # nixpkgs' numbers.
    users.users.nginx = lib.mkIf (cfg.user == "nginx") {
      isSystemUser = true;
      uid = 60;
      inherit (cfg) group;
    };
    users.groups.nginx = lib.mkIf (cfg.group == "nginx") { gid = 60; };
    environment.etc."nginx/nginx.conf".text = ''
      worker_processes auto;
      pid /run/nginx/nginx.pid;
      error_log stderr;
      events {}
      http {
      include /etc/nginx/mime.types;
      default_type application/octet-stream;
      sendfile on;
      tcp_nopush on;
      server_tokens off;
      access_log /var/log/nginx/access.log;
      ${cfg.commonHttpConfig}
      ${lib.concatMapStrings showSite (lib.attrValues cfg.virtualHosts)}
      ${cfg.appendHttpConfig}
      }
    '';
  };
}
