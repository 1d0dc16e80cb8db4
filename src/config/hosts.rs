//! The workspace's file `hosts`.

use super::Workspace;
use crate::error::Result;
use crate::file;
use crate::model::{HOSTS, Hosts};

/// Returns the hosts of the workspace; none without the file.
pub fn hosts(workspace: &Workspace) -> Result<Hosts> {
    let path = workspace.root().join(HOSTS);
    // A folder is somebody's own: many flakes keep systems in one of that name.
    let text = if path.is_dir() { None } else { file::read(&path)? };
    text.map_or_else(|| Ok(Hosts::default()), |text| Hosts::parse(HOSTS, &text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;

    #[test]
    fn a_workspace_has_the_hosts_of_its_file_and_without_one_none() {
        let (dir, workspace) = workspace();
        assert_eq!(hosts(&workspace).unwrap(), Hosts::default());
        let path = dir.path().join(HOSTS);
        std::fs::write(&path, "big qemu:///system\n").unwrap();
        assert_eq!(hosts(&workspace).unwrap().iter().count(), 1);
        std::fs::write(&path, "big\n").unwrap();
        assert_eq!(hosts(&workspace).unwrap_err().to_string(), "hosts, line 1, is wrong");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(hosts(&workspace).unwrap(), Hosts::default());
    }
}
