//! Volumes in a pool, and how they are called.
//!
//! A machine's name holds no `.`, so `web`'s volumes never meet those of `web-prod`.

use super::MachineName;

/// Returns the name of a machine's boot volume, one for each generation.
pub fn boot(machine: &MachineName, generation: u32) -> String {
    format!("{machine}.boot-{generation}.qcow2")
}

/// Returns the name of a machine's data volume.
pub fn data(machine: &MachineName) -> String {
    format!("{machine}.data.qcow2")
}

/// Returns the name of a machine's identity volume.
pub fn identity(machine: &MachineName) -> String {
    format!("{machine}.identity.img")
}

/// Returns the name of the machine that a volume belongs to; `None` for a base image, and for what is not nixvm's.
pub fn owner(volume: &str) -> Option<&str> {
    let (machine, role) = volume.split_once('.')?;
    ["boot-", "data.", "identity."].iter().any(|start| role.starts_with(start)).then_some(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_machines_never_meet() {
        let web: MachineName = "web".parse().unwrap();
        let prod: MachineName = "web-boot-1".parse().unwrap();
        assert_eq!(boot(&web, 3), "web.boot-3.qcow2");
        assert_eq!(data(&prod), "web-boot-1.data.qcow2");
        assert_eq!(identity(&web), "web.identity.img");
        for volume in [boot(&prod, 1), data(&prod), identity(&prod)] {
            assert_eq!(owner(&volume), Some("web-boot-1"));
        }
        for other in ["nixvm-base-0123.qcow2", "web.qcow2", "web", "web.database.qcow2"] {
            assert_eq!(owner(other), None);
        }
    }
}
