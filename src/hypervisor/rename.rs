//! Renaming a domain.

use virt::error::ErrorNumber;
use virt::sys;

use super::domain::{foreign, metadata_of};
use super::owned::Seen;
use super::{Hypervisor, Owned};
use crate::error::{Failure, Result};
use crate::libvirt::Say;
use crate::model::{MachineId, MachineName};

impl Hypervisor {
    /// Returns the domain of that UUID, checked to be a machine `old` or `new`, whichever its name is now; `None` if there
    /// is no such domain.
    ///
    /// libvirt renames a domain in one call, and nixvm's metadata in it is changed in a second one.
    ///
    /// # Errors
    /// It is not nixvm's, is another machine's or workspace's, or libvirt does not answer.
    pub fn own_either(
        &self,
        id: MachineId,
        (old, new): (&MachineName, &MachineName),
    ) -> Result<Option<Owned>> {
        let say = || Failure::user(format!("cannot ask libvirt for the domain `{old}`"));
        let found = self.connection().lookup_domain_by_uuid_string(&id.to_uuid());
        let Some(domain) = found.unless(ErrorNumber::NoDomain).say(say)? else { return Ok(None) };
        let called = domain.name().say(say)?;
        let name = [old, new].into_iter().find(|name| name.as_str() == called);
        let metadata = metadata_of(&domain, sys::VIR_DOMAIN_AFFECT_CONFIG).say(say)?;
        match (name, metadata) {
            (Some(name), Some(metadata)) if [old, new].contains(&&metadata.machine) => {
                self.claim(Seen { domain, name: name.clone(), metadata }).map(Some)
            }
            _ => Err(foreign(old).into()),
        }
    }
}

impl Owned {
    /// Renames the domain, which must be off; nothing is done if it has the name already.
    pub fn rename(&self, new: &MachineName) -> Result<()> {
        if self.name() == new {
            return Ok(());
        }
        self.domain.rename(new.as_str(), 0).say(|| self.cannot("rename"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machine_under_one_of_its_two_names_is_owned() {
        let hypervisor = Hypervisor::open("test:///default").unwrap();
        let [old, new, other]: [MachineName; 3] =
            ["t-old", "t-new", "t-other"].map(|name| name.parse().unwrap());
        let id = MachineId::generate();
        assert!(hypervisor.own_either(id, (&old, &new)).unwrap().is_none());
        let xml = super::super::domain::tests::xml("t-old", id, true);
        hypervisor.define(&old, id, &xml).unwrap();
        for names in [(&old, &new), (&new, &old)] {
            assert_eq!(hypervisor.own_either(id, names).unwrap().unwrap().name(), &old);
        }
        assert!(hypervisor.own_either(id, (&other, &new)).is_err());
    }
}
