//! A machine's NixOS module.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::template;
use crate::error::Result;
use crate::model::{AuthorizedKey, Generation, Machine, PasswordHash};

#[derive(Serialize)]
struct Module<'a> {
    hostname: &'a str,
    tcp_ports: &'a [u16],
    udp_ports: &'a [u16],
    machine: &'a str,
    profile: &'a str,
    generation: u32,
    digest: &'a str,
    machine_id: String,
    admin_keys: &'a [AuthorizedKey],
    user_keys: &'a [AuthorizedKey],
    resolv_conf: &'a str,
    self_contained: bool,
    root_password_hash: &'a str,
}

impl template::Context for Module<'_> {
    const TARGET: &'static str = "machine.nix";
}

/// Returns the text of the NixOS module that makes a profile this machine.
///
/// It sets the hostname and the options of `modules/per-machine.nix`, and holds no secret
/// unless the machine is self-contained.
pub fn module(machine: &Machine, generation: &Generation) -> Result<String> {
    template::render(&Module {
        hostname: machine.hostname.as_str(),
        tcp_ports: machine.tcp_ports.as_slice(),
        udp_ports: machine.udp_ports.as_slice(),
        machine: machine.name.as_str(),
        profile: machine.profile.as_str(),
        generation: generation.number,
        digest: &generation.digest,
        machine_id: machine.machine_id.to_string(),
        admin_keys: &machine.admin_keys,
        user_keys: &machine.user_keys,
        resolv_conf: machine.resolv_conf.as_str(),
        self_contained: machine.self_contained,
        root_password_hash: password_hash(machine),
    })
}

/// Returns the hash for the image; `!*` locks the account (shadow(5)).
fn password_hash(machine: &Machine) -> &str {
    machine.root_password.as_ref().map_or("!*", PasswordHash::as_str)
}

/// Returns the SHA-256 of the declared values that change the image, in 64 hexadecimal digits.
///
/// Memory, processors, disk size, network and secrets do not reach a machine through its image and do not count; the password
/// hash counts if the machine is self-contained.
pub fn digest(machine: &Machine) -> String {
    /// The values that count. With another field `format` must change.
    #[derive(Serialize)]
    struct Inputs<'a> {
        format: u32,
        name: &'a str,
        profile: &'a str,
        hostname: &'a str,
        machine_id: String,
        admin_keys: &'a [AuthorizedKey],
        user_keys: &'a [AuthorizedKey],
        tcp_ports: &'a [u16],
        udp_ports: &'a [u16],
        resolv_conf: &'a str,
        extra: Option<&'a str>,
        password_hash: Option<&'a str>,
    }
    let inputs = Inputs {
        format: 1,
        name: machine.name.as_str(),
        profile: machine.profile.as_str(),
        hostname: machine.hostname.as_str(),
        machine_id: machine.machine_id.to_string(),
        admin_keys: &machine.admin_keys,
        user_keys: &machine.user_keys,
        tcp_ports: machine.tcp_ports.as_slice(),
        udp_ports: machine.udp_ports.as_slice(),
        resolv_conf: machine.resolv_conf.as_str(),
        extra: machine.extra.as_deref(),
        password_hash: machine.self_contained.then(|| password_hash(machine)),
    };
    let mut hash = Sha256::new();
    // Strings, numbers and lists of them can always be JSON, and a hasher accepts every byte.
    let written = serde_json::to_writer(&mut hash, &inputs);
    debug_assert!(written.is_ok());
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::machine;
    use crate::model::{HostKey, MachineId, Network, Ports, Size};

    fn first() -> Generation {
        Generation { number: 1, digest: "d".repeat(64) }
    }

    #[test]
    fn secrets_stay_out_unless_the_image_must_stand_alone() {
        let mut machine = machine();
        let text = module(&machine, &first()).unwrap();
        assert!(!text.contains("secret") && !text.contains("PRIVATE") && !text.contains("rootPasswordHash"));
        machine.self_contained = true;
        assert!(module(&machine, &first()).unwrap().contains(r#"rootPasswordHash = "$6$salt$secret";"#));
        machine.root_password = None;
        assert!(module(&machine, &first()).unwrap().contains(r#"rootPasswordHash = "!*";"#));
    }

    #[test]
    fn the_digest_follows_the_image() {
        let same = digest(&machine());
        assert_eq!(same.len(), 64);
        type Change = fn(&mut Machine);
        let without: [Change; 6] = [
            |m| m.memory = Size::DEFAULT_DISK,
            |m| m.vcpus = "7".parse().unwrap(),
            |m| m.var_size = Size::DEFAULT_MEMORY,
            |m| m.network = Network::User,
            |m| m.host_key = HostKey::generate("other").unwrap(),
            |m| m.root_password = None,
        ];
        for change in without {
            let mut changed = machine();
            change(&mut changed);
            assert_eq!(digest(&changed), same);
        }
        let with: [Change; 9] = [
            |m| m.profile = "dev".parse().unwrap(),
            |m| m.hostname = "web2".parse().unwrap(),
            |m| m.machine_id = MachineId::from_bytes([8; 16]).unwrap(),
            |m| m.admin_keys.clear(),
            |m| m.user_keys.clone_from(&m.admin_keys),
            |m| m.tcp_ports = Ports::default(),
            |m| m.resolv_conf = "".parse().unwrap(),
            |m| m.extra = Some(String::new()),
            |m| m.self_contained = true,
        ];
        let mut seen = vec![same];
        for change in with {
            let mut changed = machine();
            change(&mut changed);
            let digest = digest(&changed);
            assert!(!seen.contains(&digest));
            seen.push(digest);
        }
    }

    /// The budget is 100 ms in a release build; `benches/` keeps it.
    #[test]
    fn a_thousand_machines_render() {
        let one = machine();
        let named = |i| Machine { name: format!("m{i}").parse().unwrap(), ..one.clone() };
        let machines: Vec<Machine> = (0..1000).map(named).collect();
        let first = first();
        let start = std::time::Instant::now();
        let bytes: usize = machines.iter().map(|machine| module(machine, &first).unwrap().len()).sum();
        eprintln!("rendered 1000 machines, {bytes} bytes, in {:?}", start.elapsed());
        assert!(bytes > 500_000);
    }
}
