# Minimal NixOS system: immutable, no ssh, nobody but root.
#
# Everything else builds on it. Alone it is for a machine whose one service speaks for itself and that is looked
# after from the console.
{
  imports = [ ../modules ];
}
