//! The XML that libvirt takes.

use minijinja::value::Value;
use serde::Serialize;

use super::template;
use super::xml::Element;
use crate::error::{Explain, Failure, Result};
use crate::libvirt::metadata;
use crate::model::domain::{Arch, DomainSpec};
use crate::model::record::{DEFINED_NAMESPACE, Metadata};
use crate::model::{Ipv4Range, Network};

#[derive(Serialize)]
struct Domain<'a> {
    name: &'a str,
    uuid: String,
    defined_namespace: &'a str,
    metadata: Value,
    generation: u32,
    ssh_port: Option<u16>,
    profile: &'a str,
    domain_type: &'a str,
    arch: &'a str,
    machine_type: &'a str,
    cpu_mode: &'a str,
    x86: bool,
    memory_mib: u64,
    vcpus: u32,
    boot: &'a str,
    data: &'a str,
    identity: &'a str,
    nvram: &'a str,
    serial_log: &'a str,
    mac: String,
    interface_type: &'a str,
    bridge: &'a str,
}

impl template::Context for Domain<'_> {
    const TARGET: &'static str = "domain.xml";
}

/// Returns the XML of a domain; see <https://libvirt.org/formatdomain.html>.
pub fn domain_xml(spec: &DomainSpec) -> Result<String> {
    let (interface_type, bridge) = match &spec.network {
        Network::Nat => ("network", ""),
        Network::Bridge(interface) => ("bridge", interface.as_str()),
        Network::User => ("user", ""),
    };
    // Only QEMU's own network has a port to forward.
    let ssh_port = spec.metadata.ssh_port.filter(|_| spec.network == Network::User);
    let element = metadata::write_qualified(&Metadata { ssh_port, ..spec.metadata.clone() })
        .explain(|| Failure::user("cannot write domain.xml"))?;
    let current = spec.metadata.current();
    let files = &spec.files;
    template::render(&Domain {
        name: spec.name.as_str(),
        uuid: spec.machine_id.to_uuid(),
        defined_namespace: DEFINED_NAMESPACE,
        metadata: Value::from_object(Element(element)),
        generation: current.number,
        ssh_port,
        profile: current.profile.as_str(),
        domain_type: spec.accelerator.domain_type(),
        arch: spec.arch.as_str(),
        machine_type: spec.arch.machine_type(),
        cpu_mode: spec.accelerator.cpu_mode(),
        x86: spec.arch == Arch::X86_64,
        memory_mib: spec.memory.mib(),
        vcpus: spec.accelerator.vcpus(spec.vcpus),
        boot: &files.boot,
        data: &files.data,
        identity: &files.identity,
        nvram: &files.nvram,
        serial_log: &files.serial_log,
        mac: spec.mac.to_string(),
        interface_type,
        bridge,
    })
}

#[derive(Serialize)]
struct Pool<'a> {
    name: &'a str,
    path: &'a str,
}

impl template::Context for Pool<'_> {
    const TARGET: &'static str = "pool.xml";
}

/// Returns the XML of a pool that is a folder of the host; `path` is absolute.
pub fn pool_xml(name: &str, path: &str) -> Result<String> {
    template::render(&Pool { name, path })
}

#[derive(Serialize)]
struct DefaultNetwork<'a> {
    bridge: &'a str,
    address: String,
    netmask: &'static str,
    first: String,
    last: String,
}

impl template::Context for DefaultNetwork<'_> {
    const TARGET: &'static str = "network.xml";
}

/// Returns the XML of libvirt's network `default`: NAT and DHCP on the 256 addresses of `range`, behind `bridge`.
///
/// libvirt ships it with `virbr0` and 192.168.122.0/24. A host that is itself a guest of such a network needs another range.
pub fn network_xml(bridge: &str, range: Ipv4Range) -> Result<String> {
    let address = |number| range.address(number).to_string();
    template::render(&DefaultNetwork {
        bridge,
        address: address(1),
        netmask: "255.255.255.0",
        first: address(2),
        last: address(254),
    })
}
