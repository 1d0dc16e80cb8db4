//! A machine for tests.

use super::*;

/// A public key that nobody has the other half of.
pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ/cF2XbAI+KlH9I9okb1YvimEsMrKOPVg5KTyq11t6";

/// Returns a valid machine `web` with a comment in its key that is hard to escape.
pub(crate) fn machine() -> Machine {
    Machine {
        name: "web".parse().unwrap(),
        profile: "core".parse().unwrap(),
        hostname: "web".parse().unwrap(),
        machine_id: MachineId::from_bytes([7; 16]).unwrap(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        network: Network::Nat,
        host_key: HostKey::generate("root@web").unwrap(),
        admin_keys: vec![format!("{KEY} it's \"me\" ${{x}}").parse().unwrap()],
        user_keys: Vec::new(),
        tcp_ports: Ports::default_tcp(),
        udp_ports: Ports::default(),
        root_password: Some("$6$salt$secret".parse().unwrap()),
        resolv_conf: ResolvConf::default(),
        pool: Some("fast".parse().unwrap()),
        libvirt: Some(Libvirt::Uri(Connection::default())),
        memory: Size::DEFAULT_MEMORY,
        vcpus: Vcpus::DEFAULT,
        var_size: Size::DEFAULT_DISK,
        autostart: false,
        after: Vec::new(),
        protect: false,
        extra: None,
        self_contained: false,
    }
}
