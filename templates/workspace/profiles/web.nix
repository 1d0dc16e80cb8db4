# Core with a web server that serves /var/www.
#
# The first line is what `nixvm list-profiles` prints. nixvm's own profiles are at hand as `profiles`.
{ profiles, ... }:
{
  imports = [ profiles.core ];

  services.nginx = {
    enable = true;
    virtualHosts.default.root = "/var/www";
  };
  systemd.tmpfiles.rules = [ "d /var/www 0755 admin admin -" ];
}
