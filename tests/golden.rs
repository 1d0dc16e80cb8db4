//! Compares the text that nixvm generates for Nix and libvirt with files, and checks that their own parsers accept it.
//!
//! The files are in `tests/golden/`. After an intended change, `GOLDEN=write cargo test --test golden` writes them again; commit
//! the diff.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};

use nixvm::exec::{self, Command};
use nixvm::model::domain::{Accelerator, Arch, DomainFiles, DomainSpec};
use nixvm::model::record::{Build, BuildHealth, Generations, Metadata, Snapshot};
use nixvm::model::{
    Generation, HostKey, Machine, MachineId, MachineName, Network, Observation, Ports, ResolvConf, Size,
    System, Vcpus,
};
use nixvm::render;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ/cF2XbAI+KlH9I9okb1YvimEsMrKOPVg5KTyq11t6";
/// Everything that Nix or XML gives a meaning.
const ODD: &str = r#"it's "me" \ ${HOME} $${x} ''${y}'' & <b> {{ name }} # é"#;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares a rendered text with its file and returns the file's path.
fn compare(name: &str, text: &str) -> PathBuf {
    let path = golden(name);
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "tests/golden/{name} differs; it would be:\n{text}");
    path
}

fn on_path(program: &str) -> bool {
    let found = exec::find(program, &std::env::var_os("PATH").unwrap_or_default()).is_some();
    if !found {
        eprintln!("SKIPPED: `{program}` is not on PATH and reads nothing");
    }
    found
}

fn machine() -> Machine {
    Machine {
        name: "web".parse().unwrap(),
        profile: "core".parse().unwrap(),
        hostname: "Web-1".parse().unwrap(),
        machine_id: MachineId::from_uuid("0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11").unwrap(),
        mac: "52:54:00:12:34:56".parse().unwrap(),
        network: Network::Nat,
        host_key: HostKey::generate("root@web").unwrap(),
        admin_keys: vec![format!("{KEY} {ODD}").parse().unwrap(), format!("restrict {KEY}").parse().unwrap()],
        user_keys: Vec::new(),
        tcp_ports: Ports::default_tcp(),
        udp_ports: Ports::default(),
        root_password: Some("$6$salt$hash".parse().unwrap()),
        resolv_conf: ResolvConf::default(),
        pool: None,
        libvirt: None,
        memory: Size::DEFAULT_MEMORY,
        vcpus: Vcpus::DEFAULT,
        var_size: Size::DEFAULT_DISK,
        autostart: false,
        after: Vec::new(),
        protect: false,
        extra: None,
        self_contained: false,
    }
}

fn generation(number: u32) -> Generation {
    Generation { number, digest: "d".repeat(64) }
}

fn build(number: u32) -> Build {
    Build {
        number,
        profile: "core".parse().unwrap(),
        digest: "0".repeat(64),
        base: format!("nixvm-base-{}.qcow2", "a".repeat(32)),
        made: 1_795_392_576,
        health: BuildHealth::Untried,
        nixpkgs: "8eeec".into(),
        kernel: "6.12.1".into(),
        also: None,
        fingerprint: None,
        seen: None,
    }
}

/// A build with all that can be known of one.
fn looked_at(number: u32) -> Build {
    let units = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Build {
        also: Some("1".repeat(64)),
        fingerprint: Some("f".repeat(64)),
        seen: Some(Observation {
            agent: true,
            ssh: true,
            system: Some(System::Degraded),
            failed: units(&["a.service", "dev-disk\\x2dby.mount"]),
            restarting: units(&["b.service"]),
        }),
        ..build(number)
    }
}

fn domain(network: Network) -> DomainSpec {
    let name: MachineName = "web".parse().unwrap();
    DomainSpec {
        machine_id: machine().machine_id,
        arch: Arch::X86_64,
        accelerator: Accelerator::Kvm,
        memory: Size::DEFAULT_MEMORY,
        vcpus: Vcpus::DEFAULT,
        network,
        mac: machine().mac,
        files: DomainFiles {
            boot: format!("/pool/{ODD}/web_2.boot-3.qcow2"),
            data: format!("/pool/{ODD}/web_2.data-2.qcow2"),
            identity: format!("/pool/{ODD}/web_2.identity.img"),
            nvram: format!("/pool/{ODD}/web_2.nvram.fd"),
            serial_log: format!("/pool/{ODD}/web_2.serial.log"),
        },
        metadata: Metadata {
            machine: name.clone(),
            workspace: format!("/home/me/{ODD}"),
            stem: "web_2".parse().unwrap(),
            ssh_port: None,
            generations: Generations::first(build(1)).with(looked_at(3)),
            snapshots: vec![Snapshot {
                name: "before".parse().unwrap(),
                taken: 1_795_392_577,
                layer: 1,
                merging: None,
                nvram: true,
                generation: 1,
                consistent: false,
            }],
        },
        name,
    }
}

fn forwarded(spec: DomainSpec) -> DomainSpec {
    DomainSpec { metadata: Metadata { ssh_port: Some(2222), ..spec.metadata }, ..spec }
}

#[test]
fn modules_hold_what_the_machine_declares() {
    let plain = compare("machine.nix", &render::module(&machine(), &generation(3)).unwrap());
    let alone = Machine { self_contained: true, ..machine() };
    let alone = compare("machine-self-contained.nix", &render::module(&alone, &generation(1)).unwrap());
    if !on_path("nix") {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let expression = format!("map import [ {} {} ]", plain.display(), alone.display());
    let json = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "eval", "--json", "--impure"])
        .args(["--store", "dummy://", "--expr", &expression])
        .env("NIX_STATE_DIR", state.path())
        .output()
        .unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(seen[0]["networking"]["hostName"], "Web-1");
    assert_eq!(seen[0]["nixvm"]["tcpPorts"], serde_json::json!([22, 80, 443]));
    let keys = &seen[0]["nixvm"]["adminKeys"];
    assert_eq!(*keys, serde_json::json!([format!("{KEY} {ODD}"), format!("restrict {KEY}")]));
    assert_eq!(seen[0]["nixvm"]["resolvConf"], ResolvConf::default().as_str());
    assert_eq!(seen[0]["nixvm"]["rootPasswordHash"], serde_json::Value::Null);
    assert_eq!(seen[1]["nixvm"]["rootPasswordHash"], "$6$salt$hash");
}

#[test]
fn libvirts_schemas_take_its_xml() {
    let nat = domain(Network::Nat);
    let bridge = DomainSpec {
        arch: Arch::Aarch64,
        accelerator: Accelerator::Tcg,
        ..domain(Network::Bridge("br0".parse().unwrap()))
    };
    let user = forwarded(domain(Network::User));
    let files = [
        ("domain", "domain-nat.xml", render::domain_xml(&nat)),
        ("domain", "domain-bridge-aarch64.xml", render::domain_xml(&bridge)),
        ("domain", "domain-user.xml", render::domain_xml(&user)),
        ("storagepool", "pool.xml", render::pool_xml("nixvm", "/var/lib/libvirt/images/nixvm")),
        ("network", "network.xml", render::network_xml("virbr0", "192.168.122.0/24".parse().unwrap())),
    ];
    let valid = on_path("virt-xml-validate") && on_path("xmllint");
    for (schema, name, text) in files {
        let path = compare(name, &text.unwrap());
        if valid {
            Command::new("virt-xml-validate").arg(path).arg(schema).output().unwrap();
        }
    }
}

#[test]
fn a_forwarded_port_is_for_qemus_own_network_alone() {
    let stray = forwarded(domain(Network::Nat));
    assert_eq!(render::domain_xml(&stray).unwrap(), render::domain_xml(&domain(Network::Nat)).unwrap());
}

#[test]
fn a_path_that_xml_cannot_hold_is_refused_with_a_way_out() {
    let mut spec = domain(Network::Nat);
    spec.metadata.workspace = "/home/me/\u{1b}[2J".to_owned();
    let report = nixvm::error::Report::of(&render::domain_xml(&spec).unwrap_err());
    assert_eq!(report.exit_code, 1);
    assert!(report.causes.iter().any(|cause| cause.starts_with(r"`/home/me/\u{1b}[2J`")), "{report:?}");
    assert_eq!(report.hints.len(), 1);
}
