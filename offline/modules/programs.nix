# Programs that NixOS has a switch for.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.programs;
  # programs.NAME.enable -> the package of the same name
  simple = [
    "bat"
    "direnv"
    "fzf"
    "git"
    "htop"
    "less"
    "nano"
    "tcpdump"
    "tmux"
    "vim"
  ];
  lines = mkOption {
    type = types.lines;
    default = "";
    description = "Further lines of its configuration.";
  };
in
{
  options.programs =
    lib.recursiveUpdate
      (lib.genAttrs simple (name: {
        enable = mkOption {
          type = types.bool;
          default = false;
          description = "Whether the guest has ${name}.";
        };
      }))
      {
        git.config = mkOption {
          type = types.attrsOf (types.attrsOf types.unspecified);
          default = { };
          description = "Settings of /etc/gitconfig, by section.";
        };
        tmux.extraConfig = lines;
        vim.defaultEditor = mkOption {
          type = types.bool;
          default = false;
          description = "Whether EDITOR is vim.";
        };
        ssh.extraConfig = lines;
        bash.interactiveShellInit = lines;
      };

  config = {
    environment.systemPackages = map (name: pkgs.${name}) (lib.filter (name: cfg.${name}.enable) simple);
    environment.variables.EDITOR = lib.mkIf cfg.vim.defaultEditor "vim";
    environment.interactiveShellInit = cfg.bash.interactiveShellInit;
    environment.etc = {
      "gitconfig" = {
        enable = cfg.git.config != { };
        text = lib.generators.toINI { } cfg.git.config;
      };
      "tmux.conf" = {
        enable = cfg.tmux.extraConfig != "";
        text = cfg.tmux.extraConfig;
      };
      "ssh/ssh_config.d/nixos.conf" = {
        enable = cfg.ssh.extraConfig != "";
        text = cfg.ssh.extraConfig;
      };
    };
  };
}
