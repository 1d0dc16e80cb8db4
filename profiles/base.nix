# Minimal NixOS system: immutable, no ssh, no account but root.
#
# The other profiles build on it. Use it alone for a machine with a single service that you manage from the console.
{
  imports = [ ../modules ];
}
