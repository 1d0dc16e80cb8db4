# Base with an SSH server and the accounts admin (sudo) and user (none).
#
# Login is by key only. For admin and user sshd accepts only the keys that come with the image, which are those of the machine's
# folder and of openssh.authorizedKeys. It ignores ~/.ssh, which is on the data disk and outlives images: a key that is removed
# from the folder stops working with the next image. Other accounts may have keys in their homes, as forgejo, gitea, gitlab and
# gitolite do.
{ config, lib, ... }:
let
  inherit (config.users) users;

  # Set explicitly: for an account without a configured hash userborn keeps the hash that it finds in /var.
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
    # No host would have pinned a key that the guest generates.
    generateHostKeys = false;
    authorizedKeysInHomedir = lib.mkDefault true;
    settings = {
      PasswordAuthentication = lib.mkDefault false;
      KbdInteractiveAuthentication = lib.mkDefault false;
      PermitRootLogin = lib.mkDefault "no";
    };
    # First, because of two matching blocks sshd uses the first. Closed with `Match all`, because other modules add text behind it.
    extraConfig = lib.mkBefore ''
      Match User admin,user
        AuthorizedKeysFile /nix/.delta/machine/authorized_keys/%u /etc/ssh/authorized_keys.d/%u
      Match all
    '';
  };

  # Without a host key sshd fails again and again until systemd gives up. So it waits for the volume with the key, does not
  # start without one, and starts when the volume comes late.
  systemd.services = lib.mkIf (!config.services.openssh.startWhenNeeded) {
    sshd = {
      after = [ "run-nixvm-identity.mount" ];
      unitConfig.ConditionFileNotEmpty = map (key: "|${key.path}") config.services.openssh.hostKeys;
    };
    nixvm-identity-late.onSuccess = [ "sshd.service" ];
  };

  # Fixed numbers, because files in /var carry them and outlive the images.
  users.groups.admin.gid = 1000;
  users.groups.user.gid = 1001;
  users.users.admin = {
    isNormalUser = true;
    uid = 1000;
    group = "admin";
    extraGroups = [ "wheel" ];
    hashedPassword = locked;
  };
  users.users.user = {
    isNormalUser = true;
    uid = 1001;
    group = "user";
    hashedPassword = locked;
  };
  # admin has no password that sudo could ask for.
  security.sudo.wheelNeedsPassword = false;

  assertions = [
    {
      assertion = users.admin.uid == 1000 && users.user.uid == 1001;
      message = ''
        nixvm: the uids of admin and user are ${toString users.admin.uid} and ${toString users.user.uid}, but the files in /var of
        every machine belong to 1000 and 1001. Keep these numbers, and give other accounts other ones.'';
    }
  ];
}
