//! nixvm's element in a domain's metadata, written and read.
//!
//! Machines of older and newer versions of nixvm meet in it: what is written must be readable to older ones, and attributes
//! and elements of newer ones are passed over.

use std::str::FromStr;

use roxmltree::Node;

use super::xml;
use crate::error::Result;
use crate::model::observation::unit_names;
use crate::model::record::{Build, BuildHealth, Generations, METADATA_NAMESPACE, Metadata, Snapshot};
use crate::model::{Observation, System};

type Attributes<'a> = Vec<(&'a str, Option<String>)>;

/// Returns the element as `virDomainSetMetadata` takes it: without a namespace, which libvirt adds, and refuses to add twice.
///
/// # Errors
/// A value, such as the workspace's path, holds a character that XML cannot.
pub fn write(metadata: &Metadata) -> Result<String> {
    element(metadata, "", None)
}

/// Returns the element as it stands in a whole definition, with its namespace.
pub fn write_qualified(metadata: &Metadata) -> Result<String> {
    element(metadata, "nixvm:", Some(METADATA_NAMESPACE.to_owned()))
}

fn element(metadata: &Metadata, prefix: &str, namespace: Option<String>) -> Result<String> {
    let mut attributes = vec![
        ("xmlns:nixvm", namespace),
        ("name", some(&metadata.machine)),
        ("workspace", some(&metadata.workspace)),
        ("volumes", some(&metadata.stem)),
        ("generation", some(metadata.current().number)),
    ];
    attributes.push(("ssh-port", metadata.ssh_port.and_then(some)));
    let mut text = format!("<{prefix}machine{}>", written(attributes)?);
    for build in metadata.generations.all() {
        text += &format!("\n      <{prefix}generation{}/>", written(of_build(build))?);
    }
    for snapshot in &metadata.snapshots {
        text += &format!("\n      <{prefix}snapshot{}/>", written(of_snapshot(snapshot))?);
    }
    Ok(text + &format!("\n    </{prefix}machine>"))
}

fn of_build(build: &Build) -> Attributes<'static> {
    let mut attributes = vec![
        ("number", some(build.number)),
        ("profile", some(&build.profile)),
        ("digest", some(&build.digest)),
        ("base", some(&build.base)),
        ("made", some(build.made)),
        ("health", some(build.health)),
        ("nixpkgs", some(&build.nixpkgs)),
        ("kernel", some(&build.kernel)),
        ("also", build.also.clone()),
        ("fingerprint", build.fingerprint.clone()),
    ];
    if let Some(seen) = &build.seen {
        let answered = [(seen.agent, "agent "), (seen.ssh, "ssh")];
        let answered = answered.into_iter().filter(|(answers, _)| *answers).map(|(_, word)| word).collect();
        let units = |units: &std::collections::BTreeSet<String>| {
            (!units.is_empty()).then(|| units.iter().map(|unit| format!("{unit} ")).collect())
        };
        attributes.extend([
            ("answered", Some(answered)),
            ("system", seen.system.map(|system| system.as_str().to_owned())),
            ("failed", units(&seen.failed)),
            ("restarting", units(&seen.restarting)),
        ]);
    }
    attributes
}

fn of_snapshot(snapshot: &Snapshot) -> Attributes<'static> {
    let yes = |is: bool| Some(if is { "yes" } else { "no" }.to_owned());
    vec![
        ("name", some(&snapshot.name)),
        ("taken", some(snapshot.taken)),
        ("layer", some(snapshot.layer)),
        ("merging", snapshot.merging.and_then(some)),
        ("nvram", yes(snapshot.nvram)),
        ("generation", some(snapshot.generation)),
        ("consistent", yes(snapshot.consistent)),
    ]
}

fn some(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn written(attributes: Attributes<'_>) -> Result<String> {
    let mut text = String::new();
    for (name, value) in attributes {
        if let Some(value) = value {
            text += &format!(" {name}=\"{}\"", xml::checked(&value)?);
        }
    }
    Ok(text)
}

/// Returns what the element says; `None` if it is not complete and valid.
///
/// A domain whose element cannot be read is not taken for nixvm's own.
pub fn read(xml: &str) -> Option<Metadata> {
    xml::read(xml, |machine| {
        let children = |name| machine.children().filter(move |child| child.has_tag_name(name));
        Some(Metadata {
            machine: parsed(machine.has_tag_name("machine").then_some(machine)?, "name")?,
            workspace: value(machine, "workspace")?,
            stem: parsed(machine, "volumes")?,
            ssh_port: optional(machine, "ssh-port")?,
            generations: Generations::new(
                parsed(machine, "generation")?,
                children("generation").map(build).collect::<Option<_>>()?,
            )?,
            snapshots: children("snapshot").map(snapshot).collect::<Option<_>>()?,
        })
    })
    .ok()?
}

fn build(element: Node<'_, '_>) -> Option<Build> {
    Some(Build {
        number: parsed(element, "number")?,
        profile: parsed(element, "profile")?,
        digest: value(element, "digest")?,
        base: value(element, "base")?,
        made: parsed(element, "made")?,
        health: BuildHealth::from_word(element.attribute("health")?)?,
        nixpkgs: value(element, "nixpkgs")?,
        kernel: value(element, "kernel")?,
        also: value(element, "also"),
        fingerprint: value(element, "fingerprint"),
        seen: element.attribute("answered").map(|answered| seen(element, answered)),
    })
}

/// Returns what was seen of a build; the words of a later nixvm that this one does not know say nothing.
fn seen(element: Node<'_, '_>, answered: &str) -> Observation {
    let units = |name| unit_names(element.attribute(name).unwrap_or_default().split(' '));
    Observation {
        agent: answered.split(' ').any(|word| word == "agent"),
        ssh: answered.split(' ').any(|word| word == "ssh"),
        system: element.attribute("system").map(System::from_word),
        failed: units("failed"),
        restarting: units("restarting"),
    }
}

fn snapshot(element: Node<'_, '_>) -> Option<Snapshot> {
    Some(Snapshot {
        name: parsed(element, "name")?,
        taken: parsed(element, "taken")?,
        layer: parsed(element, "layer")?,
        merging: optional(element, "merging")?,
        nvram: element.attribute("nvram")? == "yes",
        generation: parsed(element, "generation")?,
        consistent: element.attribute("consistent")? == "yes",
    })
}

fn value(element: Node<'_, '_>, name: &str) -> Option<String> {
    element.attribute(name).map(str::to_owned)
}

fn parsed<T: FromStr>(element: Node<'_, '_>, name: &str) -> Option<T> {
    element.attribute(name)?.parse().ok()
}

/// Returns the attribute's value, if there is one; the outer `None` is one that cannot be read.
fn optional<T: FromStr>(element: Node<'_, '_>, name: &str) -> Option<Option<T>> {
    element.attribute(name).map(str::parse).transpose().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "<nixvm:machine xmlns:nixvm=\"urn:nixvm:domain:1\" name='web' workspace='/home/a &amp; &quot;b&quot;' \
                         volumes='web_2' generation='7'>\
                         <nixvm:generation number='6' profile='core' digest='abc' base='b' made='1795392576' health='healthy' nixpkgs='8eeec' kernel='6.12'/>\
                         <nixvm:generation number='7' profile='dev' digest='def' base='c' made='1795392577' health='untried' nixpkgs='8eeec' kernel='6.12'/>\
                         <nixvm:snapshot name='before' taken='5' layer='1' nvram='yes' generation='6' consistent='no'/>\
                         <nixvm:later/></nixvm:machine>";

    #[test]
    fn every_value_arrives_unescaped() {
        let metadata = read(WHOLE).unwrap();
        assert_eq!(metadata.machine.as_str(), "web");
        assert_eq!(metadata.workspace, "/home/a & \"b\"");
        assert_eq!((metadata.stem.as_str(), metadata.ssh_port), ("web_2", None));
        let current = metadata.current();
        assert_eq!((current.number, current.profile.as_str(), current.digest.as_str()), (7, "dev", "def"));
        assert_eq!((current.made, current.health), (1_795_392_577, BuildHealth::Untried));
        assert_eq!(metadata.generations.all().len(), 2);
        assert_eq!((&current.also, &current.fingerprint, &current.seen), (&None, &None, &None));
        let seen = "kernel='6.12' answered='agent ssh' system='degraded' failed='a.service b.mount' also='x' fingerprint='f'/>";
        let looked_at = read(&WHOLE.replace("kernel='6.12'/>", seen)).unwrap();
        let build = looked_at.current();
        assert_eq!((build.also.as_deref(), build.fingerprint.as_deref()), (Some("x"), Some("f")));
        let expected = Observation {
            agent: true,
            ssh: true,
            system: Some(System::Degraded),
            failed: ["a.service".to_owned(), "b.mount".to_owned()].into(),
            restarting: [].into(),
        };
        assert_eq!(build.seen, Some(expected));
        let before = metadata.snapshot(&"before".parse().unwrap()).unwrap();
        assert_eq!((before.layer, before.nvram, before.consistent), (1, true, false));
        let merging = read(&WHOLE.replace(" layer='1'", " layer='2' merging='1'")).unwrap();
        assert_eq!((merging.snapshots[0].layer, merging.snapshots[0].merging), (2, Some(1)));
        let forwarded = read(&WHOLE.replace(" generation='7'>", " generation='7' ssh-port='2222'>")).unwrap();
        assert_eq!(forwarded.ssh_port, Some(2222));
    }

    #[test]
    fn what_is_not_whole_is_not_ours() {
        for (from, to) in [
            ("name='web'", ""),
            ("'web'", "'../web'"),
            ("generation='7'>", "generation='8'>"),
            ("number='7'", "number='-7'"),
            ("number='7'", "number='6'"),
            ("digest='abc'", ""),
            ("'untried'", "'fine'"),
            ("layer='1'", "layer='x'"),
            ("layer='1'", "layer='2' merging='x'"),
            ("generation='7'>", "generation='7' ssh-port='x'>"),
            ("</nixvm:machine>", ""),
        ] {
            assert_eq!(read(&WHOLE.replacen(from, to, 1)), None, "{from} -> {to}");
        }
        assert_eq!(read(""), None);
    }

    /// As nixvm wrote it when a template made it.
    const WRITTEN: &str = include_str!("../../tests/golden/metadata.xml");

    #[test]
    fn what_is_written_is_what_older_ones_wrote_and_is_read_back() {
        let metadata = read(WRITTEN).unwrap();
        assert_eq!(write_qualified(&metadata).unwrap(), WRITTEN.trim_end());
        let bare = WRITTEN.replace(" xmlns:nixvm=\"urn:nixvm:domain:1\"", "").replace("nixvm:", "");
        assert_eq!(write(&metadata).unwrap(), bare.trim_end());
        assert_eq!(read(&bare), Some(metadata.clone()));
        let poorer = Metadata { ssh_port: None, snapshots: Vec::new(), ..metadata };
        assert_eq!(read(&write(&poorer).unwrap()), Some(poorer.clone()));
        assert!(write(&Metadata { workspace: "/\u{1b}".into(), ..poorer }).is_err());
    }
}
