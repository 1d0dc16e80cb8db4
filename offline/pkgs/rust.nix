{ lib, pkgs, data }: { }
