//! A machine's files as an archive holds them.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::create::beside;
use super::declared::Declared;
use super::{Workspace, exists};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::secret::MACHINE_SECRETS;
use crate::model::{Machine, MachineName};

#[derive(Clone, PartialEq, Eq)]
pub struct ArchivedFile {
    /// A plain name without a `/`.
    pub name: String,
    pub executable: bool,
    /// May be a secret.
    pub bytes: Vec<u8>,
}

pub fn from_archive(name: &MachineName, files: &[ArchivedFile]) -> Result<Machine> {
    declared(files)?.complete(name, LABEL)
}

const LABEL: &str = "the archive's machine";

pub(super) fn declared(files: &[ArchivedFile]) -> Result<Declared> {
    Declared::parse(LABEL, |name| {
        let Some(file) = files.iter().find(|file| file.name == name) else { return Ok(None) };
        let text = std::str::from_utf8(&file.bytes);
        text.map(|text| Some(text.to_owned()))
            .explain(|| Failure::user(format!("{LABEL}/{name} is not UTF-8 text")))
    })
}

/// Makes `machines/NAME` from an archive's files, byte for byte except for values that differ in `machine`.
///
/// A new folder appears complete or not at all. In an existing one each file is replaced in the same way; files that nixvm
/// would read and the archive lacks are deleted, and all others stay.
pub fn unpack(workspace: &Workspace, machine: &Machine, files: &[ArchivedFile]) -> Result<()> {
    let (wanted, gone) = wanted(machine, files)?;
    let folder = workspace.machine_dir(&machine.name);
    if !exists(workspace, &machine.name) {
        return beside(workspace, &machine.name, |new| wanted.values().try_for_each(|file| write(new, file)));
    }
    wanted.values().try_for_each(|file| write(&folder, file))?;
    gone.iter().try_for_each(|name| file::remove(&folder.join(name)).map(drop))?;
    file::sync_folder(&folder)
}

/// Writes an archive's files that are no secret into `folder`, for `extra.nix` may name them.
pub fn unpack_public(folder: &Path, files: &[ArchivedFile]) -> Result<()> {
    let mut public = files.iter().filter(|file| !MACHINE_SECRETS.contains(&file.name.as_str()));
    public.try_for_each(|file| write(folder, file))
}

/// Returns the files that the folder is to have, and the names that it must not have.
fn wanted(
    machine: &Machine,
    files: &[ArchivedFile],
) -> Result<(BTreeMap<String, ArchivedFile>, Vec<&'static str>)> {
    let there = declared(files)?;
    let mut all: BTreeMap<String, ArchivedFile> =
        files.iter().map(|file| (file.name.clone(), file.clone())).collect();
    let mut gone = Vec::new();
    for ((name, before), (_, after)) in there.files().into_iter().zip(Declared::from(machine).files()) {
        match after {
            // Keeps the text with a person's comments.
            Some(_) if after == before => {}
            Some(text) => {
                let file = ArchivedFile { name: name.to_owned(), executable: false, bytes: text.into() };
                all.insert(name.to_owned(), file);
            }
            None => {
                all.remove(name);
                gone.push(name);
            }
        }
    }
    Ok((all, gone))
}

fn write(folder: &Path, file: &ArchivedFile) -> Result<()> {
    let path = folder.join(&file.name);
    let mode = if file.executable { 0o700 } else { 0o600 };
    file::replace(&path, &file.bytes)?;
    fs::set_permissions(&path, Permissions::from_mode(mode))
        .explain(|| Failure::user(format!("cannot set the mode of {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, load, with_new_identity};
    use crate::model::Size;

    fn files(folder: &Path) -> Vec<ArchivedFile> {
        let mut files: Vec<ArchivedFile> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| ArchivedFile {
                name: entry.file_name().into_string().unwrap(),
                executable: entry.metadata().unwrap().permissions().mode() & 0o100 != 0,
                bytes: fs::read(entry.path()).unwrap(),
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    #[test]
    fn a_folder_comes_back_byte_for_byte_and_another_with_its_own_identity() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        let machine = create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let folder = workspace.machine_dir(&web);
        fs::write(folder.join("tcp_ports"), "# mine\n8080\n").unwrap();
        fs::write(folder.join("notes.bin"), b"\xff\0").unwrap();
        fs::write(folder.join("health-check"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join("health-check"), Permissions::from_mode(0o700)).unwrap();
        let before = files(&folder);
        let archived = from_archive(&web, &before).unwrap();
        assert_eq!(archived.machine_id, machine.machine_id);

        fs::remove_dir_all(&folder).unwrap();
        unpack(&workspace, &archived, &before).unwrap();
        assert!(files(&folder) == before);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(workspace.machines_dir()).unwrap().count(), 1);

        // Over one that is there: what nixvm would read goes, what it would not stays.
        fs::write(folder.join("extra.nix"), "{ }").unwrap();
        fs::write(folder.join("todo"), "").unwrap();
        fs::write(folder.join("memory"), "9G\n").unwrap();
        let larger = Machine { var_size: Size::from_bytes(30 << 30), ..archived.clone() };
        unpack(&workspace, &larger, &before).unwrap();
        assert_eq!(load(&workspace, &web).unwrap(), larger);
        assert!(folder.join("todo").exists() && !folder.join("extra.nix").exists());
        assert_eq!(fs::read_to_string(folder.join("tcp_ports")).unwrap(), "# mine\n8080\n");

        let other = with_new_identity(&archived, &"other".parse().unwrap()).unwrap();
        unpack(&workspace, &other, &before).unwrap();
        assert_eq!(load(&workspace, &other.name).unwrap(), other);
        let folder = workspace.machine_dir(&other.name);
        assert_eq!(fs::read(folder.join("notes.bin")).unwrap(), b"\xff\0");
        assert_eq!(fs::metadata(folder.join("health-check")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn files_that_make_no_machine_are_refused() {
        let file = |name: &str, bytes: &[u8]| ArchivedFile {
            name: name.into(),
            executable: false,
            bytes: bytes.into(),
        };
        let web: MachineName = "web".parse().unwrap();
        let why = |files: &[ArchivedFile]| from_archive(&web, files).unwrap_err().to_string();
        assert_eq!(why(&[file("profile", b"core")]), "the archive's machine/machine-id is missing");
        assert_eq!(why(&[file("profile", b"\xff")]), "the archive's machine/profile is not UTF-8 text");
        assert_eq!(why(&[file("vcpus", b"0")]), "the archive's machine/vcpus, line 1, is wrong");
    }
}
