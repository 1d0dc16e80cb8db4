//! Warns where a machine's secrets or data cross a connection that others can read or whose other end is not verified.

use crate::host::{Setup, Watch};
use crate::model::uri::{Exposure, Remote};
use crate::model::{Connection, HOSTS, MachineName};

pub fn warn(setup: &Setup, name: &MachineName, what: &str, watch: &dyn Watch) {
    let file = match &setup.host {
        Some(_) => format!("the file `{HOSTS}`"),
        None => format!("machines/{name}/connection"),
    };
    if let Some(text) = warning(&setup.connect, &file, name, what) {
        watch.note(&text);
    }
}

fn warning(connect: &Connection, file: &str, name: &MachineName, what: &str) -> Option<String> {
    let uri = connect.as_str();
    let exposure = Exposure::of(uri)?;
    let host = Remote::of(uri)?.host;
    let (danger, fix) = match exposure {
        Exposure::InClear => (
            format!("{host} unencrypted, and anyone on the way can read and change them"),
            format!("write a URI with qemu+ssh:// or qemu+tls:// to {file}"),
        ),
        Exposure::AnyHost => (
            format!("whatever answers as {host}, because its identity is not checked"),
            format!("remove no_verify or known_hosts_verify from the URI in {file}"),
        ),
        Exposure::NewHost => (
            format!("whatever answers as {host} on the first connection"),
            format!("remove known_hosts_verify=auto from the URI in {file} once the host's key is known"),
        ),
    };
    Some(format!("{what} of {name} pass between here and {danger}; {fix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_others_can_read_or_answer_is_named_with_the_way_out() {
        let file = "machines/web/connection";
        let said = |uri: &str| warning(&uri.parse().unwrap(), file, &"web".parse().unwrap(), "secrets");
        let clear = said("qemu+tcp://root@server:16509/system").unwrap();
        assert!(clear.starts_with("secrets of web pass between here and server unencrypted"), "{clear}");
        assert!(clear.contains("qemu+ssh://") && clear.contains("machines/web/connection"), "{clear}");
        for uri in
            ["qemu+ssh://server/system?no_verify=1", "qemu+libssh://server/system?known_hosts_verify=auto"]
        {
            let open = said(uri).unwrap();
            assert!(
                open.contains("whatever answers as server") && open.contains("machines/web/connection"),
                "{open}"
            );
        }
        for uri in
            ["qemu:///system", "qemu+ssh://server/system", "qemu+tls://server/system", "test:///default"]
        {
            assert_eq!(said(uri), None, "{uri}");
        }
    }
}
