# Why: every path in a profile is stored, copied into each pool and mapped at each boot. This module switches off the parts
# that a virtual machine without a screen does not need; a profile or a NixOS module that wants one of these sets it.
{ lib, ... }:
let
  # Stronger than an option's own default and weaker than mkDefault, with which NixOS's modules set what they need: GNOME sets
  # xdg.* and fonts that way, and two mkDefaults of one option conflict. nixpkgs' profiles/minimal.nix has the same list, but
  # uses mkDefault.
  off = lib.mkOverride 1400 false;
in
{
  documentation = {
    enable = off;
    doc.enable = off;
    info.enable = off;
    man.enable = off;
    nixos.enable = off;
  };
  environment.defaultPackages = lib.mkOverride 1400 [ ];
  environment.stub-ld.enable = off;
  programs.command-not-found.enable = off;
  services.udisks2.enable = off;
  xdg = {
    autostart.enable = off;
    icons.enable = off;
    mime.enable = off;
    sounds.enable = off;
  };

  boot.bcache.enable = off;
  boot.swraid.enable = off;
  boot.kexec.enable = off;
  boot.enableContainers = off;
  services.lvm.enable = off;
  fonts.fontconfig.enable = off;
}
