# Core with Docker, which admin may use.
#
# Images and containers are in /var/lib/docker, so they persist and are in backups. Nothing is pruned by itself.
# A port that a container publishes is open whatever the machine's tcp_ports say: Docker writes its own rules
# ahead of the firewall's.
{
  imports = [ ./core.nix ];

  virtualisation.docker.enable = true;
  users.users.admin.extraGroups = [ "docker" ]; # as good as root, which admin can become anyway
}
