//! nixvm's element in a domain's metadata, read back.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::model::domain::Metadata;

/// Returns what the element says; `None` if it is not complete and valid.
///
/// A domain whose element cannot be read is not taken for nixvm's own.
pub(super) fn parse(xml: &str) -> Option<Metadata> {
    let mut reader = Reader::from_str(xml);
    let element = loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) => break element,
            Event::Eof => return None,
            _ => {}
        }
    };
    let value = |name: &str| -> Option<String> {
        let attribute = element.try_get_attribute(name).ok()??;
        Some(attribute.unescape_value().ok()?.into_owned())
    };
    Some(Metadata {
        machine: value("name")?.parse().ok()?,
        workspace: value("workspace")?,
        profile: value("profile")?.parse().ok()?,
        generation: value("generation")?.parse().ok()?,
        digest: value("digest")?,
        ssh_port: value("ssh-port").map(|port| port.parse()).transpose().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "<nixvm:machine xmlns:nixvm=\"urn:nixvm:domain:1\" name='web' workspace='/home/a &amp; &quot;b&quot;' \
                         profile='core' generation='7' digest='abc'/>";

    #[test]
    fn every_value_arrives_unescaped() {
        let metadata = parse(WHOLE).unwrap();
        assert_eq!(metadata.machine.as_str(), "web");
        assert_eq!(metadata.workspace, "/home/a & \"b\"");
        assert_eq!((metadata.profile.as_str(), metadata.generation), ("core", 7));
        assert_eq!((metadata.digest.as_str(), metadata.ssh_port), ("abc", None));
        let forwarded = parse(&WHOLE.replace("/>", " ssh-port='2222'/>")).unwrap();
        assert_eq!(forwarded.ssh_port, Some(2222));
    }

    #[test]
    fn what_is_not_whole_is_not_ours() {
        for (from, to) in [
            ("name='web'", ""),
            ("'web'", "'../web'"),
            ("'7'", "'-7'"),
            ("digest='abc'", ""),
            ("/>", " ssh-port='x'/>"),
            ("/>", ""),
        ] {
            assert_eq!(parse(&WHOLE.replace(from, to)), None, "{from} -> {to}");
        }
        assert_eq!(parse(""), None);
    }
}
