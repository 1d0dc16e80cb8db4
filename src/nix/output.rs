//! The folder of nixvm's output.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Explain, Failure, Result};
use crate::file;

/// Makes the output folder, or checks that an existing one was made by nixvm.
pub fn require_own_output(workspace: &Path, output: &Path) -> Result<()> {
    let shown = output.display();
    let cannot = || Failure::user(format!("cannot make the folder `{shown}`"));
    let Some(found) = file::existing(fs::symlink_metadata(output)).explain(cannot)? else {
        return file::create_folder(output);
    };
    if !found.is_dir() {
        return Err(Failure::user(format!("`{shown}` is a link or a file, not a folder of nixvm's"))
            .hint("look where it leads, and delete it; nixvm makes a folder in its place")
            .into());
    }
    let (me, owner) = (rustix::process::geteuid().as_raw(), found.uid());
    let of_workspace = fs::metadata(workspace).explain(cannot)?.uid();
    if owner != me && owner != of_workspace {
        return Err(Failure::user(format!("`{shown}` belongs to the user {owner}, and nixvm runs as {me}"))
            .hint("delete it, or make it yours: nixvm can make everything in it again, except backups")
            .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_output_that_is_not_nixvms_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("output");
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), &output).unwrap();
        let error = require_own_output(dir.path(), &output).unwrap_err().to_string();
        assert!(error.ends_with("is a link or a file, not a folder of nixvm's"), "{error}");
        fs::remove_file(&output).unwrap();
        require_own_output(dir.path(), &output).unwrap();
        require_own_output(dir.path(), &output).unwrap();
    }
}
