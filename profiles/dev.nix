# Docker with development tools; user may use Docker too.
#
# That makes user as powerful as root of the guest, because a container may mount the whole guest.
#
# nix-ld runs binaries built for other distributions: downloaded toolchains, editors' remote servers.
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
