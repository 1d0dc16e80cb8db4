# Dev with Claude Code, Anthropic's AI coding assistant.
#
# It is not free software; nix/workspace.nix allows it by name.
{ pkgs, ... }:
{
  imports = [ ./dev.nix ];

  environment.systemPackages = [ pkgs.claude-code ];
}
