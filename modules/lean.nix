# Why: every path in a profile is stored, copied into each pool and mapped at each boot. Off goes what a virtual
# machine without a screen has no use for; a profile or a NixOS module that wants one of these sets it.
{ lib, ... }:
let
  # In front of an option's own default and behind mkDefault, which NixOS's modules use for what they need: GNOME asks
  # for xdg.* and fonts that way, and two mkDefaults of one option conflict. That is why nixpkgs' profiles/minimal.nix,
  # which has the same list, is not imported.
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
