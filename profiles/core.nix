# Base with an SSH server and the accounts admin (sudo) and user (none).
#
# Login is by key only, and only by the keys of the machine's folder: a key taken out there is gone with the next
# image. So nothing is read from ~/.ssh, which is on the data disk and outlives images.
{ config, lib, ... }:
let
  cfg = config.nixvm;
  inherit (config.users) users;

  # Said, not left out: for an account without a configured hash userborn keeps the one it finds in /var.
  locked = lib.mkDefault "*";
in
{
  imports = [ ./base.nix ];

  services.openssh = {
    enable = true;
    # The machine's tcp_ports decide, as for every other port.
    openFirewall = false;
    hostKeys = [
      {
        type = "ed25519";
        path = "/run/nixvm/identity/ssh_host_ed25519_key";
      }
    ];
    # A key made up in the guest is one that no host has pinned.
    generateHostKeys = false;
    authorizedKeysInHomedir = false;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "no";
    };
  };

  # Fixed numbers: files in /var carry them and outlive the images.
  users.groups.admin.gid = 1000;
  users.groups.user.gid = 1001;
  users.users.admin = {
    isNormalUser = true;
    uid = 1000;
    group = "admin";
    extraGroups = [ "wheel" ];
    hashedPassword = locked;
    openssh.authorizedKeys.keys = cfg.adminKeys;
  };
  users.users.user = {
    isNormalUser = true;
    uid = 1001;
    group = "user";
    hashedPassword = locked;
    openssh.authorizedKeys.keys = cfg.userKeys;
  };
  # admin has no password to ask for.
  security.sudo.wheelNeedsPassword = false;

  assertions = [
    {
      assertion = users.admin.uid == 1000 && users.user.uid == 1001;
      message = ''
        nixvm: the uids of admin and user are ${toString users.admin.uid} and ${toString users.user.uid}, but /var of every machine
        was written with 1000 and 1001. Leave them, and give other accounts other numbers.'';
    }
  ];
}
