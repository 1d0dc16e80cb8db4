//! Backing chains: volumes that lie on other volumes.
//!
//! libvirt describes a volume as it was at the last refresh of the pool, and QEMU changes
//! chains on its own: so a chain is read from the volumes' own headers. libvirt also takes
//! every file that begins with a qcow2 header for a qcow2 file. So the names decide which
//! volumes can have a backing file.

use std::collections::{BTreeMap, BTreeSet};

use virt::error::ErrorNumber;

use super::Pool;
use super::look::Described;
use super::put::HEAD;
use super::sparse::{beginning, overwrite};
use super::xml::backing;
use crate::error::{Explain, Failure, Result};
use crate::libvirt::Say;
use crate::libvirt::xml::text_at;
use crate::model::qcow2;
use crate::model::volume::may_be_qcow2;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    pub volume: String,
    /// Bytes of the disk that a guest sees.
    pub capacity: u64,
    /// Bytes that this volume alone occupies in the pool.
    pub allocation: u64,
}

impl Pool {
    /// Returns the absolute path of the pool's folder on its host.
    pub fn path(&self) -> Result<String> {
        let say = || self.cannot("look up", "the folder");
        let xml = self.pool.xml_desc(0).say(say)?;
        let path = text_at(&xml, "pool/target/path").filter(|path| path.starts_with('/'));
        path.ok_or_else(|| say().because(Failure::user("it is no pool of files")).into())
    }

    pub fn volume_path(&self, volume: &str) -> Result<String> {
        let say = || self.cannot("look up the path of", volume);
        match self.look_for(volume)? {
            Some(found) => found.path().say(say),
            None => Err(say()
                .because(Failure::user(format!("`{volume}` is missing")))
                .hint(format!(
                    "`virsh vol-list {}` shows what is there; put the file back under the same name",
                    self.name()
                ))
                .into()),
        }
    }

    /// Returns the backing chain of the volume, itself first.
    ///
    /// # Errors
    /// A volume of the chain is missing, outside this pool or its own backing file, or libvirt does not answer.
    pub fn chain(&self, volume: &str) -> Result<Vec<Link>> {
        let say = || self.cannot("follow the backing files of", volume);
        let path = self.path()?;
        let mut chain: Vec<Link> = Vec::new();
        let mut next = Some(volume.to_owned());
        while let Some(name) = next {
            if chain.iter().any(|link| link.volume == name) {
                return Err(say().because(Failure::user(format!("`{name}` lies on itself"))).into());
            }
            let described = match self.look_for(&name)? {
                Some(found) => self.describe(&found, &name).say(say)?,
                None => None,
            };
            let Some(Described { capacity, allocation, below }) = described else {
                return Err(say().because(Failure::user(format!("`{name}` is missing"))).into());
            };
            next = match below {
                None => None,
                Some(below) => Some(beside(&path, &below).map(str::to_owned).ok_or_else(|| {
                    say().because(Failure::user(format!(
                        "`{name}` lies on `{below}`, which is outside the pool"
                    )))
                })?),
            };
            chain.push(Link { volume: name, capacity, allocation });
        }
        Ok(chain)
    }

    /// Returns the name of the volume's backing file, or its path if it is outside the pool; `None` if there is none, or no
    /// such volume.
    pub fn below(&self, volume: &str) -> Result<Option<String>> {
        let say = || self.cannot("tell what lies below", volume);
        let Some(found) = self.look_for(volume)? else { return Ok(None) };
        let Some(below) = self.describe(&found, volume).say(say)?.and_then(|described| described.below)
        else {
            return Ok(None);
        };
        let beside = beside(&self.path()?, &below).map(str::to_owned);
        Ok(Some(beside.unwrap_or(below)))
    }

    /// Returns every volume that has a backing file, with the name of that, or its path if it is outside the pool.
    ///
    /// This takes one call for each volume: libvirt describes volumes only one by one.
    pub fn backing_of_all(&self) -> Result<BTreeMap<String, String>> {
        let say = || self.cannot("list", "the backing files");
        self.refresh()?;
        let path = self.path()?;
        let mut all = BTreeMap::new();
        for volume in self.pool.list_all_volumes(0).say(say)? {
            let name = volume.name().say(say)?;
            if !may_be_qcow2(&name) {
                continue;
            }
            // One that was deleted since the list was made is no error.
            let xml = volume.xml_desc(0).unless(ErrorNumber::NoStorageVolume).say(say)?;
            if let Some(below) = xml.as_deref().and_then(backing) {
                let below = beside(&path, &below).map(str::to_owned).unwrap_or(below);
                all.insert(name, below);
            }
        }
        Ok(all)
    }

    /// Replaces the backing file of a qcow2 volume by the volume `on`. Nothing may have the volume open.
    ///
    /// # Errors
    /// One of the two is missing, the volume has no backing file, or libvirt fails.
    pub fn move_onto(&self, volume: &str, on: &str) -> Result<()> {
        let say = || self.cannot("change what lies below", volume);
        self.chain(on)?;
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        let mut head = beginning(&self.connection, &found, HEAD as usize).say(say)?;
        qcow2::change_backing(&mut head, on).explain(say)?;
        overwrite(&self.connection, &found, &head).explain(say)
    }

    /// Returns the volumes whose backing chains contain this one.
    pub fn lying_on(&self, volume: &str) -> Result<BTreeSet<String>> {
        Ok(above(&self.backing_of_all()?, volume))
    }
}

/// Returns the name of a file, given by path or by name alone, if it is directly in the folder `dir`.
fn beside<'a>(dir: &str, path: &'a str) -> Option<&'a str> {
    let name = match path.rsplit_once('/') {
        Some((parent, name)) => (parent == dir.trim_end_matches('/')).then_some(name)?,
        None => path,
    };
    (!name.is_empty()).then_some(name)
}

fn above(backing: &BTreeMap<String, String>, volume: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![volume];
    while let Some(below) = open.pop() {
        for (name, _) in backing.iter().filter(|(_, on)| *on == below) {
            if found.insert(name.clone()) {
                open.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backing_file_is_in_the_pool_or_outside() {
        for (path, name) in [
            ("/pool/a.qcow2", Some("a.qcow2")),
            ("a.qcow2", Some("a.qcow2")),
            ("/pool/sub/a.qcow2", None),
            ("/pool2/a.qcow2", None),
            ("../a.qcow2", None),
            ("/pool/", None),
        ] {
            assert_eq!(beside("/pool", path), name, "{path}");
            assert_eq!(beside("/pool/", path), name, "{path}");
        }
    }

    #[test]
    fn all_that_lies_on_a_volume_is_found_even_in_a_loop() {
        let backing: BTreeMap<String, String> = [("b", "a"), ("c", "b"), ("d", "b"), ("x", "y"), ("y", "x")]
            .map(|(name, on)| (name.to_owned(), on.to_owned()))
            .into();
        let names = |volume| above(&backing, volume).into_iter().collect::<Vec<_>>();
        assert_eq!(names("a"), ["b", "c", "d"]);
        assert_eq!(names("d"), [""; 0]);
        assert_eq!(names("x"), ["x", "y"]);
    }
}
