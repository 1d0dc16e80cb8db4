//! The files that say where a machine is: `pool`, and `host` or `connection`.
//!
//! They are read before all other files, and even if another file is wrong: it must always be possible to find and destroy a
//! machine.

use super::files::Files;
use super::load::label;
use super::{Workspace, exists};
use crate::error::Result;
use crate::file;
use crate::model::{Libvirt, MachineName, PoolName};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub pool: Option<PoolName>,
    pub libvirt: Option<Libvirt>,
}

/// Reads where a machine is; both values are `None` where there is no such machine.
pub fn place(workspace: &Workspace, name: &MachineName) -> Result<Place> {
    let folder = workspace.machine_dir(name);
    let files = Files { label: &label(name), read: |file: &str| file::read(&folder.join(file)) };
    Ok(Place { pool: files.value("pool", str::parse)?, libvirt: files.libvirt()? })
}

/// Writes those files that a machine of an older nixvm lacks; does nothing for a machine without a folder.
pub fn record_place(
    workspace: &Workspace,
    name: &MachineName,
    pool: &PoolName,
    libvirt: &Libvirt,
) -> Result<()> {
    if !exists(workspace, name) {
        return Ok(());
    }
    let (folder, there) = (workspace.machine_dir(name), place(workspace, name)?);
    if there.pool.is_none() {
        file::replace(&folder.join("pool"), format!("{pool}\n"))?;
    }
    if there.libvirt.is_none() {
        let (name, text) = match libvirt {
            Libvirt::Host(host) => ("host", host.as_str()),
            Libvirt::Uri(connection) => ("connection", connection.as_str()),
        };
        file::replace(&folder.join(name), format!("{text}\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, load};
    use crate::model::Connection;

    #[test]
    fn what_is_written_stays_and_what_is_missing_is_filled_in() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        let (fast, slow): (PoolName, PoolName) = ("fast".parse().unwrap(), "slow".parse().unwrap());
        let system = Libvirt::Uri(Connection::default());
        record_place(&workspace, &web, &fast, &system).unwrap();
        assert!(!workspace.machine_dir(&web).exists(), "a machine without files gets none");
        create(&workspace, &NewMachine { pool: Some(fast.clone()), ..NewMachine::named(web.clone()) })
            .unwrap();
        record_place(&workspace, &web, &slow, &system).unwrap();
        let expected = Place { pool: Some(fast.clone()), libvirt: Some(system) };
        assert_eq!(place(&workspace, &web).unwrap(), expected);
        assert_eq!(load(&workspace, &web).unwrap().pool, Some(fast));
        // Found though another file is wrong.
        std::fs::write(workspace.machine_dir(&web).join("memory"), "lots").unwrap();
        assert_eq!(place(&workspace, &web).unwrap(), expected);
        std::fs::write(workspace.machine_dir(&web).join("pool"), "a b\n").unwrap();
        assert!(place(&workspace, &web).is_err());
    }

    #[test]
    fn a_machine_is_on_a_host_or_at_a_uri() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        let pool = PoolName::default();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let big = Libvirt::Host("big".parse().unwrap());
        record_place(&workspace, &web, &pool, &big).unwrap();
        record_place(&workspace, &web, &pool, &Libvirt::Uri(Connection::default())).unwrap();
        assert_eq!(place(&workspace, &web).unwrap(), Place { pool: Some(pool), libvirt: Some(big.clone()) });
        assert_eq!(load(&workspace, &web).unwrap().libvirt, Some(big));
        std::fs::write(workspace.machine_dir(&web).join("connection"), "qemu:///system\n").unwrap();
        let both = place(&workspace, &web).unwrap_err().to_string();
        assert_eq!(both, "machines/web/host and machines/web/connection both say where the machine is");
        assert_eq!(load(&workspace, &web).unwrap_err().to_string(), both);
    }
}
