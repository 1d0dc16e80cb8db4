//! A libvirt storage pool and the volumes in it.

use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::sys;

use crate::error::{Failure, Result};
use crate::libvirt::{Answer, Say};
use crate::model::volume::{self, VolumeStem, may_be_qcow2};
use crate::model::{MachineId, MachineName, Size};

/// A pool of files: libvirt's type `dir`.
pub struct Pool {
    pub(super) connection: Connect,
    pub(super) pool: StoragePool,
    /// The machine that a command works on: it may delete volumes that this machine's own domain needs.
    pub(super) machine: Option<(MachineName, Option<MachineId>)>,
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Bytes of the disk that a guest sees; the length of a raw file.
    pub capacity: u64,
    /// Bytes that the volume occupies in the pool.
    pub allocation: u64,
}

/// The size of a pool's file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Space {
    pub capacity: u64,
    pub available: u64,
}

impl Pool {
    /// Returns the pool `name`, started if necessary; `None` if there is none.
    pub fn find(connection: &Connect, name: &str) -> Result<Option<Self>> {
        let say = || cannot_start(name);
        let found =
            connection.lookup_storage_pool_by_name(name).unless(ErrorNumber::NoStoragePool).say(say)?;
        let Some(pool) = found else { return Ok(None) };
        if !pool.is_active().say(say)? {
            // The pool is not built: if its folder is missing, the disk with the machines may just not be mounted.
            start(&pool, StoragePool::create)
                .say(|| say().hint("see that its folder is there: `virsh pool-dumpxml` shows which it is"))?;
        }
        Ok(Some(Self::new(connection, pool, name)))
    }

    fn new(connection: &Connect, pool: StoragePool, name: &str) -> Self {
        Pool { connection: connection.clone(), pool, machine: None, name: name.to_owned() }
    }

    /// Returns the pool `name`, started now and whenever libvirt starts; made from `xml` if there is none.
    pub fn ensure(connection: &Connect, name: &str, xml: &str) -> Result<Self> {
        if let Some(pool) = Self::find(connection, name)? {
            return Ok(pool);
        }
        let say = || cannot_start(name);
        let pool = match connection.define_storage_pool_xml(xml, 0) {
            Ok(pool) => pool,
            // Another nixvm may have defined it first.
            Err(error) => return Self::find(connection, name)?.map_or_else(|| Err(error).say(say), Ok),
        };
        let built = start(&pool, StoragePool::build)
            .and_then(|()| start(&pool, StoragePool::create))
            .and_then(|()| pool.set_autostart(true));
        if let Err(error) = built {
            // A definition that does not work would stand in the way of the next try.
            let _ = pool.undefine();
            return Err(error).say(say);
        }
        Ok(Self::new(connection, pool, name))
    }

    /// Returns the pool for work on a machine, whose own domain does not keep volumes from being deleted. That is the domain of
    /// the UUID `id`, whatever its name; for a machine without a domain yet, it is the one that gets the name.
    #[must_use]
    pub fn of_machine(self, name: MachineName, id: Option<MachineId>) -> Self {
        Pool { machine: Some((name, id)), ..self }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the names of all volumes, sorted, in one call.
    pub fn volumes(&self) -> Result<Vec<String>> {
        // Not `list_volumes`: `virt` 0.5 truncates that to 1,024 names.
        let volumes = self.pool.list_all_volumes(0).say(|| self.cannot("list", "the volumes"))?;
        let mut names: Vec<String> = volumes.iter().filter_map(|volume| volume.name().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Returns the names of the volumes of one machine, sorted.
    pub fn volumes_of(&self, stem: &VolumeStem) -> Result<Vec<String>> {
        let own = |name: &String| volume::parse(name).is_some_and(|(owner, _)| owner == *stem);
        Ok(self.volumes()?.into_iter().filter(own).collect())
    }

    /// Returns the size of the volume; `None` if there is none of that name.
    pub fn usage(&self, volume: &str) -> Result<Option<Usage>> {
        let say = || self.cannot("look at", volume);
        let Some(found) = self.volume(volume).say(say)? else { return Ok(None) };
        let Some(info) = found.info().unless(ErrorNumber::NoStorageVolume).say(say)? else { return Ok(None) };
        let mut usage = Usage { capacity: info.capacity, allocation: info.allocation };
        if !may_be_qcow2(volume) {
            // libvirt believes a header, which a guest may have written there.
            let xml = self.xml_of(volume).say(say)?;
            usage.capacity = xml.as_deref().and_then(super::xml::length).unwrap_or(usage.capacity);
        }
        Ok(Some(usage))
    }

    /// Returns when the volume was last written, in seconds since 1970 by its host's clock; `None` if there is none.
    pub fn written(&self, volume: &str) -> Result<Option<u64>> {
        let xml = self.xml_of(volume).say(|| self.cannot("look at", volume))?;
        Ok(xml.as_deref().and_then(super::xml::written))
    }

    pub fn space(&self) -> Result<Space> {
        // libvirt knows the space as of the last refresh. It refuses one while a volume is being made.
        let _ = self.pool.refresh(0);
        let info = self.pool.info().say(|| self.cannot("look at", "the free space"))?;
        Ok(Space { capacity: info.capacity, available: info.available })
    }

    pub fn require_space(&self, bytes: u64, what: &str) -> Result<()> {
        let available = self.space()?.available;
        if bytes <= available {
            return Ok(());
        }
        let [need, have] = [bytes, available].map(|bytes| bytes.div_ceil(1 << 20));
        Err(Failure::user(format!(
            "the pool `{}` has no space for {what}: {need} MiB needed, {have} MiB free",
            self.name
        ))
        .hint("free space there; `nixvm list` shows what each machine takes")
        .into())
    }

    /// Deletes the volume and returns whether there was one.
    ///
    /// libvirt does not check whether a guest uses it. This checks all domains except that of the pool's own machine, which
    /// is up to the caller.
    ///
    /// # Errors
    /// Another domain needs the volume, libvirt is copying it, or it cannot be deleted.
    pub fn delete(&self, volume: &str) -> Result<bool> {
        if self.volume(volume).say(|| self.cannot("look at", volume))?.is_none() {
            return Ok(false);
        }
        self.require_unused(volume)?;
        self.delete_raw(volume).say(|| self.cannot("delete", volume))
    }

    pub(super) fn delete_raw(&self, volume: &str) -> Answer<bool> {
        let Some(found) = self.volume(volume)? else { return Ok(false) };
        Ok(found.delete(0).unless(ErrorNumber::NoStorageVolume)?.is_some())
    }

    /// Makes the disk in a qcow2 volume larger; no running guest may use it.
    pub fn grow(&self, volume: &str, capacity: Size) -> Result<()> {
        if !self.is_taken_for_qcow2(volume)? {
            self.refresh()?;
        }
        self.resize(volume, capacity)
    }

    /// Makes the disk in a qcow2 volume larger if that needs no waiting, and returns whether it did. It waits if the pool was
    /// not refreshed since the volume was made and libvirt is copying another volume.
    pub fn grow_now(&self, volume: &str, capacity: Size) -> Result<bool> {
        if !self.is_taken_for_qcow2(volume)? && !self.refresh_now()? {
            return Ok(false);
        }
        self.resize(volume, capacity).map(|()| true)
    }

    /// Until a refresh libvirt takes the volume for a raw one, as it was made, and would only append zeros to the file.
    fn is_taken_for_qcow2(&self, volume: &str) -> Result<bool> {
        let xml = self.xml_of(volume).say(|| self.cannot("grow", volume))?;
        Ok(xml.as_deref().and_then(super::xml::format).as_deref() == Some("qcow2"))
    }

    fn resize(&self, volume: &str, capacity: Size) -> Result<()> {
        let say = || self.cannot("grow", volume);
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        found.resize(capacity.bytes(), 0).say(say)
    }

    /// Returns libvirt's handle of the volume, if libvirt knows it.
    pub(super) fn volume(&self, volume: &str) -> Answer<Option<StorageVol>> {
        self.pool.lookup_storage_vol_by_name(volume).unless(ErrorNumber::NoStorageVolume)
    }

    /// Returns libvirt's description of the volume, if libvirt knows it.
    pub(super) fn xml_of(&self, volume: &str) -> Answer<Option<String>> {
        let Some(found) = self.volume(volume)? else { return Ok(None) };
        found.xml_desc(0).unless(ErrorNumber::NoStorageVolume)
    }

    pub(super) fn cannot(&self, verb: &str, what: &str) -> Failure {
        Failure::user(format!("cannot {verb} {what} in the pool `{}`", self.name))
    }
}

fn cannot_start(name: &str) -> Failure {
    Failure::user(format!("cannot use libvirt's pool `{name}`"))
}

/// Takes a step towards a running pool; it does not matter if another process has just started the pool instead.
fn start(
    pool: &StoragePool,
    step: impl FnOnce(&StoragePool, sys::virStoragePoolCreateFlags) -> Answer<()>,
) -> Answer<()> {
    step(pool, 0).or_else(|error| if pool.is_active()? { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    /// Tests run side by side and share what the test driver has, so each has a pool of its own.
    fn pool(connection: &Connect, name: &str) -> Pool {
        let xml = format!("<pool type='dir'><name>{name}</name><target><path>/{name}</path></target></pool>");
        Pool::ensure(connection, name, &xml).unwrap()
    }

    #[test]
    fn a_pool_is_made_once_and_found_again() {
        let connection = crate::libvirt::connect("test:///default").unwrap();
        assert!(Pool::find(&connection, "t-once").unwrap().is_none());
        pool(&connection, "t-once");
        pool(&connection, "t-once").pool.destroy().unwrap();
        assert!(Pool::find(&connection, "t-once").unwrap().unwrap().pool.is_active().unwrap());
    }

    #[test]
    fn many_make_the_same_pool_at_once() {
        let make = || pool(&crate::libvirt::connect("test:///default").unwrap(), "t-many").name().to_owned();
        let made: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(made, ["t-many"; 8]);
    }

    #[test]
    fn volumes_are_listed_and_those_not_there_are_no_errors() {
        let connection = crate::libvirt::connect("test:///default").unwrap();
        let pool = pool(&connection, "t-volumes");
        assert_eq!(pool.usage("none").unwrap(), None);
        assert!(!pool.delete("none").unwrap());
        for name in ["b", "a"] {
            let xml = format!("<volume><name>{name}</name><capacity>4096</capacity></volume>");
            StorageVol::create_xml(&pool.pool, &xml, 0).unwrap();
        }
        assert_eq!(pool.volumes().unwrap(), ["a", "b"]);
        assert_eq!(pool.usage("a").unwrap().map(|usage| usage.capacity), Some(4096));
        assert!(pool.delete("a").unwrap());
        assert_eq!(pool.volumes().unwrap(), ["b"]);
    }

    #[test]
    fn a_full_pool_is_told_before_anything_is_written() {
        let connection = crate::libvirt::connect("test:///default").unwrap();
        let report =
            Report::of(&pool(&connection, "t-full").require_space(1 << 60, "the image").unwrap_err());
        assert!(
            report
                .error
                .starts_with("the pool `t-full` has no space for the image: 1099511627776 MiB needed")
        );
    }
}
