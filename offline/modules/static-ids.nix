# Accounts and groups that Debian's packages and systemd's device rules expect, with the numbers of base-passwd,
# or (from 990 on) of this base.
{
  users =
    let
      service = uid: group: { inherit uid group; };
    in
    {
      root = {
        uid = 0;
        group = "root";
        home = "/root";
      };
      daemon = service 1 "daemon";
      bin = service 2 "bin";
      sys = service 3 "sys";
      man = service 6 "man";
      mail = service 8 "mail";
      www-data = service 33 "www-data";
      backup = service 34 "backup";
      nobody = service 65534 "nogroup";
      messagebus = service 990 "messagebus";
      systemd-network = service 991 "systemd-network";
      systemd-timesync = service 992 "systemd-timesync";
      systemd-resolve = service 993 "systemd-resolve";
      sshd = service 994 "nogroup" // { home = "/run/sshd"; };
    };
  groups = {
    root = 0;
    daemon = 1;
    bin = 2;
    sys = 3;
    adm = 4;
    tty = 5;
    disk = 6;
    lp = 7;
    mail = 8;
    kmem = 15;
    man = 12;
    dialout = 20;
    cdrom = 24;
    tape = 26;
    sudo = 27;
    audio = 29;
    www-data = 33;
    backup = 34;
    shadow = 42;
    utmp = 43;
    video = 44;
    staff = 50;
    users = 100;
    nogroup = 65534;
    messagebus = 990;
    systemd-network = 991;
    systemd-timesync = 992;
    systemd-resolve = 993;
    systemd-journal = 995;
    input = 996;
    sgx = 997;
    kvm = 998;
    render = 999;
    clock = 989;
    crontab = 988;
    wheel = 987;
  };
}
