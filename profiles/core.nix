# Base with an SSH server and the accounts admin (sudo) and user (none).
#
# Login is by key only. admin and user come in by the keys of the machine's folder alone: a key taken out there is gone
# with the next image, so their ~/.ssh, which is on the data disk and outlives images, is not read. Other accounts may
# have keys in their homes: forgejo, gitea, gitlab and gitolite keep those of their users there.
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
    openFirewall = lib.mkDefault false;
    hostKeys = [
      {
        type = "ed25519";
        path = "/run/nixvm/identity/ssh_host_ed25519_key";
      }
    ];
    # A key made up in the guest is one that no host has pinned.
    generateHostKeys = false;
    authorizedKeysInHomedir = lib.mkDefault true;
    settings = {
      PasswordAuthentication = lib.mkDefault false;
      KbdInteractiveAuthentication = lib.mkDefault false;
      PermitRootLogin = lib.mkDefault "no";
    };
    # In front of everything: of two blocks that match, sshd takes the first. Closed, for what other modules add comes behind.
    extraConfig = lib.mkBefore ''
      Match User admin,user
        AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
      Match all
    '';
  };

  # Without a host key sshd fails, and fails again until systemd gives it up. So it waits for the volume that holds the
  # key, is left out where there is none, and is started when one comes late.
  systemd.services = lib.mkIf (!config.services.openssh.startWhenNeeded) {
    sshd = {
      after = [ "run-nixvm-identity.mount" ];
      unitConfig.ConditionFileNotEmpty = map (key: "|${key.path}") config.services.openssh.hostKeys;
    };
    nixvm-identity-late.onSuccess = [ "sshd.service" ];
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
