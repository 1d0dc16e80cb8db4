# Docker with development tools; user may use Docker too.
#
# So user is as good as root of the guest: a container may mount all of it.
#
# nix-ld lets binaries built for other distributions run: downloaded toolchains, editors' remote servers.
{ pkgs, ... }:
{
  imports = [ ./docker.nix ];

  users.users.user.extraGroups = [ "docker" ];

  programs.git.enable = true;
  programs.tmux.enable = true;
  programs.htop.enable = true;
  programs.vim.enable = true;
  programs.nix-ld.enable = true;
  environment.systemPackages = [
    pkgs.curl
    pkgs.fd
    pkgs.file
    pkgs.gcc
    pkgs.gnumake
    pkgs.jq
    pkgs.python3
    pkgs.ripgrep
    pkgs.rsync
    pkgs.tree
    pkgs.unzip
    pkgs.wget
  ];
}
