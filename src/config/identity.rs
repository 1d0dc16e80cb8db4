//! A machine that is like another and is not it.

use crate::error::Result;
use crate::model::{HostKey, MacAddress, Machine, MachineId, MachineName};

/// Returns a machine like this one, under another name and with an identity of its own: machine-id and UUID, MAC address,
/// host key and host name.
///
/// Two guests with one identity get one address, and who trusts one trusts the other.
///
/// # Errors
/// The system gives no random bytes for a key.
pub fn with_new_identity(machine: &Machine, name: &MachineName) -> Result<Machine> {
    Ok(Machine {
        name: name.clone(),
        hostname: name.into(),
        machine_id: MachineId::generate(),
        mac: MacAddress::generate(),
        host_key: HostKey::generate(&format!("root@{name}"))?,
        ..machine.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    #[test]
    fn everything_but_the_identity_stays() {
        let old = sample::machine();
        let new = with_new_identity(&old, &"other".parse().unwrap()).unwrap();
        assert_eq!((new.name.as_str(), new.hostname.to_string().as_str()), ("other", "other"));
        assert!(new.machine_id != old.machine_id && new.mac != old.mac && new.host_key != old.host_key);
        let identity = |from: &Machine| (from.machine_id, from.mac, from.host_key.clone());
        let (machine_id, mac, host_key) = identity(&old);
        let (name, hostname) = (old.name.clone(), old.hostname.clone());
        assert_eq!(Machine { name, hostname, machine_id, mac, host_key, ..new }, old);
    }
}
