//! A domain's definition: written, and checked against all others before.

use virt::error::ErrorNumber;
use virt::sys;

use super::domain::{foreign, whole_definition};
use super::{Hypervisor, edits};
use crate::error::{Failure, Result};
use crate::libvirt::xml::{child, read, text_at};
use crate::libvirt::{Answer, Say};
use crate::model::{MacAddress, MachineId, MachineName, identity_of_its_own};

impl Hypervisor {
    /// Defines the domain that `xml` describes, or changes its definition; a running guest is not touched.
    ///
    /// `name` and `id` are those in `xml`. Additions made by hand stay in the definition. Returns the values that were
    /// changed by hand and are now as `xml` has them.
    ///
    /// # Errors
    /// Another domain has the name or the UUID, or libvirt refuses the XML.
    pub fn define(&self, name: &MachineName, id: MachineId, xml: &str) -> Result<Vec<String>> {
        self.check_free(name, id)?;
        let say = || Failure::user(format!("libvirt refuses the domain of `{name}`"));
        let found = self.connection().lookup_domain_by_name(name.as_str());
        let define =
            |xml: &str| self.connection().define_domain_xml_flags(xml, sys::VIR_DOMAIN_DEFINE_VALIDATE);
        let Some(domain) = found.unless(ErrorNumber::NoDomain).say(say)? else {
            define(xml).say(say)?;
            return Ok(Vec::new());
        };
        let present = whole_definition(&domain).say(say)?;
        let edits::MergedDefinition { xml, mut set_back } = edits::merge(xml, &present)?;
        let kept = "additions made by hand are kept in the definition, and one of them may no longer fit";
        let domain =
            define(&xml).say(|| say().hint(format!("{kept}: `virsh -c {} edit {name}`", self.uri())))?;
        let emulator = |xml: &str| text_at(xml, "domain/devices/emulator").unwrap_or_default();
        let (there, now) = (emulator(&present), emulator(&whole_definition(&domain).say(say)?));
        if there != now {
            set_back.push(format!("emulator from `{there}` to `{now}`"));
        }
        Ok(set_back)
    }

    /// Checks that a domain of that name and UUID can be defined without touching another one.
    ///
    /// # Errors
    /// A domain that is not nixvm's has the name, or another domain the name or the UUID.
    pub fn check_free(&self, name: &MachineName, id: MachineId) -> Result<()> {
        if let Some(other) = self.find(name)? {
            if other.metadata.is_none() {
                return Err(foreign(name).into());
            }
            if other.id != id {
                let of = other.metadata.map(|m| m.workspace).unwrap_or_default();
                return Err(Failure::user(format!(
                    "libvirt has another machine `{name}`, of the workspace `{of}`"
                ))
                .hint("give this machine another name, or destroy the other one there")
                .into());
            }
        }
        match self.find_id(id)? {
            Some(other) if other.name != name.as_str() => Err(Failure::user(format!(
                "the UUID {} is in use by the domain `{}`",
                id.to_uuid(),
                other.name
            ))
            .hint(identity_of_its_own(name))
            .into()),
            _ => Ok(()),
        }
    }

    /// Checks that no other domain than that of this UUID has a network card with that address, now or at its next start.
    pub fn check_mac(&self, name: &MachineName, id: MachineId, mac: MacAddress) -> Result<()> {
        let say = || Failure::user("cannot ask libvirt whose a MAC address is");
        let mac = mac.to_string();
        for domain in self.connection().list_all_domains(0).say(say)? {
            let other = || -> Answer<(String, String, String)> {
                Ok((domain.uuid()?.to_string(), domain.name()?, domain.xml_desc(0)?))
            };
            let Some((uuid, other, xml)) = other().unless(ErrorNumber::NoDomain).say(say)? else { continue };
            let has = read(&xml, |root| {
                let mut macs = root
                    .descendants()
                    .filter(|node| node.has_tag_name("interface"))
                    .filter_map(|card| child(card, "mac")?.attribute("address"));
                macs.any(|there| there.eq_ignore_ascii_case(&mac))
            })?;
            if has && uuid != id.to_uuid() {
                return Err(Failure::user(format!(
                    "the MAC address {mac} is in use by the domain `{other}`"
                ))
                .hint(identity_of_its_own(name))
                .into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use crate::hypervisor::domain::tests::{hypervisor, xml};

    #[test]
    fn names_and_uuids_of_others_are_refused() {
        let hypervisor = hypervisor();
        let (first, second): (MachineName, MachineName) =
            ("t-first".parse().unwrap(), "t-second".parse().unwrap());
        let id = MachineId::generate();
        hypervisor.define(&first, id, &xml("t-first", id, true)).unwrap();
        let taken = Report::of(&hypervisor.check_free(&second, id).unwrap_err());
        assert!(taken.error.ends_with("is in use by the domain `t-first`"), "{taken:?}");
        let other = Report::of(&hypervisor.check_free(&first, MachineId::generate()).unwrap_err());
        assert!(other.error.contains("of the workspace `/w`"), "{other:?}");
        hypervisor.check_free(&first, id).unwrap();
        hypervisor.check_free(&second, MachineId::generate()).unwrap();
    }

    #[test]
    fn a_mac_address_of_another_domain_is_refused() {
        let hypervisor = hypervisor();
        let (name, id): (MachineName, _) = ("t-mac".parse().unwrap(), MachineId::generate());
        let (mac, card) = (MacAddress::generate(), |mac: &str| {
            format!(
                "<devices><interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"
            )
        });
        let xml = xml("t-mac", id, true).replace("</domain>", &card(&mac.to_string().to_uppercase()));
        hypervisor.define(&name, id, &xml).unwrap();
        hypervisor.check_mac(&name, id, mac).unwrap();
        hypervisor.check_mac(&name, MachineId::generate(), MacAddress::generate()).unwrap();
        let taken = Report::of(&hypervisor.check_mac(&name, MachineId::generate(), mac).unwrap_err());
        assert!(taken.error.ends_with("is in use by the domain `t-mac`"), "{taken:?}");
    }
}
