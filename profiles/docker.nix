# Core with Docker, which admin may use.
#
# Images and containers are in /var/lib/docker, so they persist and are in backups. Nothing is pruned automatically.
# A port that a container publishes is open whatever the machine's tcp_ports say, because Docker puts its rules
# before the firewall's.
{
  imports = [ ./core.nix ];

  virtualisation.docker.enable = true;
  users.users.admin.extraGroups = [ "docker" ]; # as powerful as root, which admin can become anyway
}
