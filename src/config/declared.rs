//! The file form of a machine, in which values may be missing.

use super::files::Files;
use crate::error::{Failure, Result};
use crate::model::{
    AuthorizedKey, HostKey, Hostname, Libvirt, MacAddress, Machine, MachineId, MachineName, Network,
    PasswordHash, PoolName, Port, Ports, ProfileName, ResolvConf, Size, Vcpus, yes_no,
};

/// The checked values of a machine's files; `None` where a file is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    pub profile: Option<ProfileName>,
    pub hostname: Option<Hostname>,
    pub machine_id: Option<MachineId>,
    pub uuid: Option<MachineId>,
    pub mac: Option<MacAddress>,
    pub network: Option<Network>,
    /// `ssh_host_ed25519_key`
    pub host_key: Option<HostKey>,
    /// Whether `ssh_host_ed25519_key.pub` is there.
    pub public_key: bool,
    pub admin_keys: Option<Vec<AuthorizedKey>>,
    pub user_keys: Option<Vec<AuthorizedKey>>,
    pub tcp_ports: Option<Ports>,
    pub udp_ports: Option<Ports>,
    /// `root_password_hash`; empty, it is `Some(None)`.
    pub root_password: Option<Option<PasswordHash>>,
    pub resolv_conf: Option<ResolvConf>,
    pub pool: Option<PoolName>,
    /// `host` or `connection`
    pub libvirt: Option<Libvirt>,
    pub memory: Option<Size>,
    pub vcpus: Option<Vcpus>,
    pub var_size: Option<Size>,
    pub autostart: Option<bool>,
    pub after: Option<Vec<MachineName>>,
    pub protect: Option<bool>,
    /// `extra.nix`
    pub extra: Option<String>,
    /// Whether `self-contained` is there.
    pub self_contained: bool,
}

pub(super) const PRIVATE_KEY: &str = "ssh_host_ed25519_key";
const PUBLIC_KEY: &str = "ssh_host_ed25519_key.pub";
pub(super) const PASSWORD: &str = "root_password_hash";

impl Declared {
    /// `read` returns a file's text; `label` is the folder's name in messages.
    pub(super) fn parse(label: &str, read: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        let files = Files { label, read };
        let declared = Declared {
            profile: files.value("profile", str::parse)?,
            hostname: files.value("hostname", str::parse)?,
            machine_id: files.value("machine-id", str::parse)?,
            uuid: files.value("uuid", MachineId::from_uuid)?,
            mac: files.value("mac-address", str::parse)?,
            network: files.value("network", str::parse)?,
            host_key: files.text(PRIVATE_KEY, HostKey::from_private)?,
            public_key: false,
            admin_keys: files.list("admin_authorized_keys")?,
            user_keys: files.list("user_authorized_keys")?,
            tcp_ports: files.list::<Port>("tcp_ports")?.map(Ports::from_iter),
            udp_ports: files.list::<Port>("udp_ports")?.map(Ports::from_iter),
            root_password: files.optional_value(PASSWORD, str::parse)?,
            resolv_conf: files.text("resolv.conf", str::parse)?,
            pool: files.value("pool", str::parse)?,
            libvirt: files.libvirt()?,
            memory: files.value("memory", Size::parse_memory)?,
            vcpus: files.value("vcpus", str::parse)?,
            var_size: files.value("var_size", Size::parse_disk)?,
            autostart: files.value("autostart", yes_no::parse)?,
            // One of nothing but comments says nothing, and stays.
            after: files.list("after")?.filter(|after: &Vec<MachineName>| !after.is_empty()),
            protect: files.value("protect", yes_no::parse)?,
            extra: (files.read)("extra.nix")?,
            self_contained: (files.read)("self-contained")?.is_some(),
        };
        if declared.uuid.is_some() && declared.machine_id.is_some() && declared.uuid != declared.machine_id {
            return Err(Failure::user(format!("{label}/uuid and {label}/machine-id differ"))
                .hint(format!("remove {label}/uuid: a domain's UUID is its guest's machine-id"))
                .into());
        }
        let public_key = (files.read)(PUBLIC_KEY)?;
        match (&public_key, &declared.host_key) {
            (Some(line), Some(key)) if !key.matches(line) => Err(Failure::user(format!(
                "{label}/{PUBLIC_KEY} is not the public half of {label}/{PRIVATE_KEY}"
            ))
            .hint(format!("remove {label}/{PUBLIC_KEY}; nixvm makes it from the key"))
            .into()),
            (Some(_), None) => {
                Err(Failure::user(format!("{label}/{PUBLIC_KEY} stands without its private key"))
                    .hint(format!(
                        "put {label}/{PRIVATE_KEY} back, or remove the other file for a new host key"
                    ))
                    .into())
            }
            _ => Ok(Declared { public_key: public_key.is_some(), ..declared }),
        }
    }

    /// Fills in the defaults.
    pub(super) fn complete(self, name: &MachineName, label: &str) -> Result<Machine> {
        let missing = |file: &str| {
            Failure::user(format!("{label}/{file} is missing")).hint(format!(
                "put the file back, or run `nixvm create {name}` to make the missing files, with a new identity"
            ))
        };
        Ok(Machine {
            name: name.clone(),
            profile: self.profile.ok_or_else(|| missing("profile"))?,
            hostname: self.hostname.unwrap_or_else(|| name.into()),
            machine_id: self.machine_id.or(self.uuid).ok_or_else(|| missing("machine-id"))?,
            mac: self.mac.ok_or_else(|| missing("mac-address"))?,
            network: self.network.unwrap_or(Network::Nat),
            host_key: self.host_key.ok_or_else(|| missing(PRIVATE_KEY))?,
            admin_keys: self.admin_keys.unwrap_or_default(),
            user_keys: self.user_keys.unwrap_or_default(),
            tcp_ports: self.tcp_ports.unwrap_or_else(Ports::default_tcp),
            udp_ports: self.udp_ports.unwrap_or_default(),
            root_password: self.root_password.flatten(),
            resolv_conf: self.resolv_conf.unwrap_or_default(),
            pool: self.pool,
            libvirt: self.libvirt,
            memory: self.memory.unwrap_or(Size::DEFAULT_MEMORY),
            vcpus: self.vcpus.unwrap_or(Vcpus::DEFAULT),
            var_size: self.var_size.unwrap_or(Size::DEFAULT_DISK),
            autostart: self.autostart.unwrap_or_default(),
            after: self.after.unwrap_or_default(),
            protect: self.protect.unwrap_or_default(),
            extra: self.extra,
            self_contained: self.self_contained,
        })
    }

    /// Returns every file's name and text, `None` where there is to be no file.
    ///
    /// Equal values have equal texts, whatever comments and spellings a person used.
    pub(super) fn files(&self) -> Vec<(&'static str, Option<String>)> {
        fn line<T: ToString>(value: Option<&T>) -> Option<String> {
            value.map(|value| value.to_string() + "\n")
        }
        fn list<T: ToString>(values: Option<&[T]>) -> Option<String> {
            values.map(|values| values.iter().map(|value| value.to_string() + "\n").collect())
        }
        let host_key = self.host_key.as_ref();
        let public_key = host_key.filter(|_| self.public_key).map(HostKey::public_line);
        let password = self.root_password.as_ref();
        let (host, connection) = match &self.libvirt {
            Some(Libvirt::Host(host)) => (Some(host), None),
            Some(Libvirt::Uri(connection)) => (None, Some(connection)),
            None => (None, None),
        };
        vec![
            ("profile", line(self.profile.as_ref())),
            ("hostname", line(self.hostname.as_ref())),
            ("machine-id", line(self.machine_id.as_ref())),
            ("uuid", line(self.uuid.map(MachineId::to_uuid).as_ref())),
            ("mac-address", line(self.mac.as_ref())),
            ("network", line(self.network.as_ref())),
            (PRIVATE_KEY, host_key.map(|key| key.private().to_owned())),
            (PUBLIC_KEY, line(public_key.as_ref())),
            ("admin_authorized_keys", list(self.admin_keys.as_deref())),
            ("user_authorized_keys", list(self.user_keys.as_deref())),
            ("tcp_ports", list(self.tcp_ports.as_ref().map(Ports::as_slice))),
            ("udp_ports", list(self.udp_ports.as_ref().map(Ports::as_slice))),
            (
                PASSWORD,
                password
                    .map(|hash| hash.as_ref().map(|hash| format!("{}\n", hash.as_str())).unwrap_or_default()),
            ),
            ("resolv.conf", self.resolv_conf.as_ref().map(|text| text.as_str().to_owned())),
            ("pool", line(self.pool.as_ref())),
            ("host", line(host)),
            ("connection", line(connection)),
            ("memory", line(self.memory.map(Size::exact).as_ref())),
            ("vcpus", line(self.vcpus.as_ref())),
            ("var_size", line(self.var_size.map(Size::exact).as_ref())),
            ("autostart", line(self.autostart.map(yes_no::word).as_ref())),
            ("after", list(self.after.as_deref())),
            ("protect", line(self.protect.map(yes_no::word).as_ref())),
            ("extra.nix", self.extra.clone()),
            ("self-contained", self.self_contained.then(String::new)),
        ]
    }
}

impl From<&Machine> for Declared {
    fn from(machine: &Machine) -> Self {
        let machine = machine.clone();
        Declared {
            profile: Some(machine.profile),
            hostname: Some(machine.hostname),
            machine_id: Some(machine.machine_id),
            uuid: Some(machine.machine_id),
            mac: Some(machine.mac),
            network: Some(machine.network),
            host_key: Some(machine.host_key),
            public_key: true,
            admin_keys: Some(machine.admin_keys),
            user_keys: Some(machine.user_keys),
            tcp_ports: Some(machine.tcp_ports),
            udp_ports: Some(machine.udp_ports),
            root_password: Some(machine.root_password),
            resolv_conf: Some(machine.resolv_conf),
            pool: machine.pool,
            libvirt: machine.libvirt,
            memory: Some(machine.memory),
            vcpus: Some(machine.vcpus),
            var_size: Some(machine.var_size),
            autostart: Some(machine.autostart),
            after: Some(machine.after).filter(|after| !after.is_empty()),
            protect: Some(machine.protect),
            extra: machine.extra,
            self_contained: machine.self_contained,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::sample::{self, KEY};
    use proptest::prelude::*;

    fn read_back(machine: &Machine) -> Machine {
        let files: HashMap<_, _> = Declared::from(machine).files().into_iter().collect();
        let declared = Declared::parse("machines/web", |name| Ok(files[name].clone())).unwrap();
        assert_eq!(declared, Declared::from(machine));
        declared.complete(&machine.name, "machines/web").unwrap()
    }

    fn ports() -> impl Strategy<Value = Ports> {
        prop::collection::vec(1..=u16::MAX, 0..5)
            .prop_map(|ports| ports.iter().map(|port| port.to_string().parse::<Port>().unwrap()).collect())
    }

    fn keys() -> impl Strategy<Value = Vec<AuthorizedKey>> {
        let line = |comment: String| format!("{KEY} {comment}").parse().unwrap();
        prop::collection::vec("[^\0\r\n]{0,20}".prop_map(line), 0..3)
    }

    prop_compose! {
        fn machines()(
            hostname in "[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?",
            id in any::<[u8; 16]>().prop_filter_map("zeros", MachineId::from_bytes),
            network in prop_oneof![Just("nat".to_owned()), Just("user".to_owned()), "bridge:[a-z][a-z0-9.-]{0,14}"],
            (admin_keys, user_keys) in (keys(), keys()),
            (tcp_ports, udp_ports) in (ports(), ports()),
            hash in prop::option::of("\\$y\\$[./A-Za-z0-9$]{1,40}"),
            comment in "#[^\\p{Cc}]{0,20}\n?",
            (memory, var_size) in (128_u64..1 << 26, 64_u64..1 << 26),
            vcpus in 1..=1024_u32,
            extra in prop::option::of(".*"),
            after in prop::collection::vec("[a-z]{1,9}".prop_map(|name| name.parse().unwrap()), 0..3),
            (self_contained, autostart, protect) in any::<(bool, bool, bool)>(),
        ) -> Machine {
            Machine {
                hostname: hostname.parse().unwrap(),
                machine_id: id,
                network: network.parse().unwrap(),
                admin_keys,
                user_keys,
                tcp_ports,
                udp_ports,
                root_password: hash.map(|hash| hash.parse().unwrap()),
                resolv_conf: comment.parse().unwrap(),
                memory: Size::from_bytes(memory << 20),
                var_size: Size::from_bytes(var_size << 20),
                vcpus: vcpus.to_string().parse().unwrap(),
                autostart,
                after,
                protect,
                extra,
                self_contained,
                ..sample::machine()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_machine_comes_back_from_its_files(machine in machines()) {
            prop_assert_eq!(read_back(&machine), machine);
        }
    }

    #[test]
    fn every_file_is_known_to_those_who_keep_it_from_others() {
        use crate::model::secret::{MACHINE_FILES, MACHINE_SECRETS};
        let files = Declared::from(&sample::machine()).files();
        let mut names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        names.push(crate::config::health::HEALTH_CHECK);
        assert_eq!(names, MACHINE_FILES);
        assert_eq!(MACHINE_SECRETS, [PRIVATE_KEY, PASSWORD]);
    }

    #[test]
    fn what_is_not_declared_has_the_originals_defaults() {
        let only = ["profile", "machine-id", "mac-address", PRIVATE_KEY];
        let sample = sample::machine();
        let files = Declared::from(&sample).files();
        let read = |name: &str| {
            let (_, text) = files.iter().find(|(known, _)| *known == name).unwrap();
            Ok(text.clone().filter(|_| only.contains(&name)))
        };
        let machine = Declared::parse("l", read).unwrap().complete(&sample.name, "l").unwrap();
        let defaults =
            Machine { admin_keys: Vec::new(), root_password: None, pool: None, libvirt: None, ..sample };
        assert_eq!(machine, defaults);
        assert_eq!(machine.tcp_ports.as_slice(), [22, 80, 443]);
    }

    #[test]
    fn comments_and_spellings_are_free() {
        let sample = sample::machine();
        let read = |name: &str| {
            Ok(match name {
                "memory" => Some("# more soon\r\n\n  2048 \r\n".to_owned()),
                "tcp_ports" => Some("# none\n".to_owned()),
                "admin_authorized_keys" => Some(format!("# me\n{KEY} a # b \n\n")),
                "uuid" => Some(sample.machine_id.to_uuid().to_uppercase()),
                _ => None,
            })
        };
        let declared = Declared::parse("l", read).unwrap();
        assert_eq!(declared.memory, Some(Size::DEFAULT_MEMORY));
        assert_eq!(declared.tcp_ports, Some(Ports::default()));
        assert_eq!(declared.admin_keys.unwrap()[0].as_str(), format!("{KEY} a # b "));
        assert_eq!(declared.uuid, Some(sample.machine_id));
    }
}
