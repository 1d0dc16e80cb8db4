//! libvirt's own networks.

use virt::error::ErrorNumber;

use super::Hypervisor;
use crate::error::{Failure, Result};
use crate::libvirt::{Say, code, said};

/// What it took to have a thing running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ensured {
    /// Nothing.
    Present,
    /// It was there, and is started now.
    Started,
    /// It was not there.
    Created,
}

impl Hypervisor {
    /// Sees that the network `name` runs, now and whenever libvirt starts, and returns what that took.
    ///
    /// `xml` is defined where no network of that name is; one that is there stays as it is.
    ///
    /// # Errors
    /// This libvirt has no networks (a session has none), or the network does not start.
    pub fn ensure_network(&self, name: &str, xml: &str) -> Result<Ensured> {
        let say = || Failure::user(format!("cannot start libvirt's network `{name}`"));
        let found = match self.connection().lookup_network_by_name(name).unless(ErrorNumber::NoNetwork) {
            Err(error) if matches!(code(&error), Some(ErrorNumber::NoSupport | ErrorNumber::NoConnect)) => {
                return Err(say().hint(self.network_hint()).because(said(&error)).into());
            }
            found => found.say(say)?,
        };
        let (network, missing) = match found {
            Some(network) => (network, false),
            None => (self.connection().define_network_xml(xml).say(say)?, true),
        };
        let running = network.is_active().say(say)?;
        if !running && let Err(error) = network.create() {
            if missing {
                // A definition that does not work would stand in the way of the next try.
                let _ = network.undefine();
            }
            return Err(error).say(|| say().hint(self.network_hint()));
        }
        if !network.autostart().say(say)? {
            network.set_autostart(true).say(say)?;
        }
        Ok(match (missing, running) {
            (true, _) => Ensured::Created,
            (false, false) => Ensured::Started,
            (false, true) => Ensured::Present,
        })
    }

    fn network_hint(&self) -> &'static str {
        if self.is_session() {
            "a user's own libvirt may make no networks; use `--network user`, which needs none"
        } else {
            "it needs dnsmasq and iptables or nftables, and its address range must be free on the host"
        }
    }

    /// Returns whether the network `name` runs; `None` where there is none of that name.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn network_runs(&self, name: &str) -> Result<Option<bool>> {
        let ask = || -> std::result::Result<Option<bool>, virt::error::Error> {
            let network = self.connection().lookup_network_by_name(name).unless(ErrorNumber::NoNetwork)?;
            network.map(|network| network.is_active()).transpose()
        };
        match ask() {
            Err(error) if matches!(code(&error), Some(ErrorNumber::NoSupport | ErrorNumber::NoConnect)) => {
                Ok(None)
            }
            answer => answer.say(|| Failure::user(format!("cannot ask libvirt for the network `{name}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_network_is_made_once_and_a_stopped_one_started() {
        let hypervisor = Hypervisor::open("test:///default").unwrap();
        let xml = "<network><name>t1</name><bridge name='virbr9'/><ip address='10.9.0.1' netmask='255.255.255.0'/></network>";
        assert_eq!(hypervisor.network_runs("t1").unwrap(), None);
        assert_eq!(hypervisor.ensure_network("t1", xml).unwrap(), Ensured::Created);
        assert_eq!(hypervisor.ensure_network("t1", xml).unwrap(), Ensured::Present);
        hypervisor.connection().lookup_network_by_name("t1").unwrap().destroy().unwrap();
        assert_eq!(hypervisor.network_runs("t1").unwrap(), Some(false));
        assert_eq!(hypervisor.ensure_network("t1", xml).unwrap(), Ensured::Started);
        hypervisor.connection().lookup_network_by_name("t1").unwrap().destroy().unwrap();
        hypervisor.connection().lookup_network_by_name("t1").unwrap().undefine().unwrap();
    }
}
