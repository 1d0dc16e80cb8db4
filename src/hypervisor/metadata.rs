//! nixvm's element in a domain's metadata, read back.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::model::observation::unit_names;
use crate::model::record::{Build, BuildHealth, Generations, Metadata, Snapshot};
use crate::model::{Observation, System};

/// Returns what the element says; `None` if it is not complete and valid.
///
/// A domain whose element cannot be read is not taken for nixvm's own.
pub(super) fn parse(xml: &str) -> Option<Metadata> {
    let mut reader = Reader::from_str(xml);
    let (mut machine, mut whole) = (None, false);
    let (mut builds, mut snapshots) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) => match element.local_name().as_ref() {
                b"machine" => machine = Some(element.into_owned()),
                b"generation" => builds.push(build(&element)?),
                b"snapshot" => snapshots.push(snapshot(&element)?),
                // A later nixvm may say more.
                _ => {}
            },
            Event::End(element) => whole |= element.local_name().as_ref() == b"machine",
            Event::Eof => break,
            _ => {}
        }
    }
    let machine = machine.filter(|_| whole)?;
    Some(Metadata {
        machine: value(&machine, "name")?.parse().ok()?,
        workspace: value(&machine, "workspace")?,
        stem: value(&machine, "volumes")?.parse().ok()?,
        ssh_port: value(&machine, "ssh-port").map(|port| port.parse()).transpose().ok()?,
        generations: Generations::new(number(&machine, "generation")?, builds)?,
        snapshots,
    })
}

fn build(element: &BytesStart) -> Option<Build> {
    Some(Build {
        number: number(element, "number")?,
        profile: value(element, "profile")?.parse().ok()?,
        digest: value(element, "digest")?,
        base: value(element, "base")?,
        made: number(element, "made")?,
        health: BuildHealth::from_word(&value(element, "health")?)?,
        nixpkgs: value(element, "nixpkgs")?,
        kernel: value(element, "kernel")?,
        also: value(element, "also"),
        fingerprint: value(element, "fingerprint"),
        seen: value(element, "answered").map(|answered| seen(element, &answered)),
    })
}

/// Returns what was seen of a build; the words of a later nixvm that this one does not know say nothing.
fn seen(element: &BytesStart, answered: &str) -> Observation {
    let units = |name| unit_names(value(element, name).unwrap_or_default().split(' '));
    Observation {
        agent: answered.split(' ').any(|word| word == "agent"),
        ssh: answered.split(' ').any(|word| word == "ssh"),
        system: value(element, "system").map(|word| System::from_word(&word)),
        failed: units("failed"),
        restarting: units("restarting"),
    }
}

fn snapshot(element: &BytesStart) -> Option<Snapshot> {
    Some(Snapshot {
        name: value(element, "name")?.parse().ok()?,
        taken: number(element, "taken")?,
        layer: number(element, "layer")?,
        merging: value(element, "merging").map(|layer| layer.parse()).transpose().ok()?,
        nvram: value(element, "nvram")? == "yes",
        generation: number(element, "generation")?,
        consistent: value(element, "consistent")? == "yes",
    })
}

fn value(element: &BytesStart, name: &str) -> Option<String> {
    let attribute = element.try_get_attribute(name).ok()??;
    Some(attribute.unescape_value().ok()?.into_owned())
}

fn number<N: std::str::FromStr>(element: &BytesStart, name: &str) -> Option<N> {
    value(element, name)?.parse().ok()
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
        let metadata = parse(WHOLE).unwrap();
        assert_eq!(metadata.machine.as_str(), "web");
        assert_eq!(metadata.workspace, "/home/a & \"b\"");
        assert_eq!((metadata.stem.as_str(), metadata.ssh_port), ("web_2", None));
        let current = metadata.current();
        assert_eq!((current.number, current.profile.as_str(), current.digest.as_str()), (7, "dev", "def"));
        assert_eq!((current.made, current.health), (1_795_392_577, BuildHealth::Untried));
        assert_eq!(metadata.generations.all().len(), 2);
        assert_eq!((&current.also, &current.fingerprint, &current.seen), (&None, &None, &None));
        let seen = "kernel='6.12' answered='agent ssh' system='degraded' failed='a.service b.mount' also='x' fingerprint='f'/>";
        let looked_at = parse(&WHOLE.replace("kernel='6.12'/>", seen)).unwrap();
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
        let merging = parse(&WHOLE.replace(" layer='1'", " layer='2' merging='1'")).unwrap();
        assert_eq!((merging.snapshots[0].layer, merging.snapshots[0].merging), (2, Some(1)));
        let forwarded =
            parse(&WHOLE.replace(" generation='7'>", " generation='7' ssh-port='2222'>")).unwrap();
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
            assert_eq!(parse(&WHOLE.replacen(from, to, 1)), None, "{from} -> {to}");
        }
        assert_eq!(parse(""), None);
    }
}
