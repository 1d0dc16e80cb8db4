//! A warning where a machine's secrets or data go over a connection that others can listen to or answer.

use crate::host::{Setup, Watch};
use crate::model::uri::{Exposure, Remote};
use crate::model::{Connection, MachineName};

/// Says so if `what` of a machine, such as its secrets, goes over a connection that others can read or answer.
pub fn warn(setup: &Setup, name: &MachineName, what: &str, watch: &dyn Watch) {
    if let Some(text) = warning(&setup.connect, name, what) {
        watch.note(&text);
    }
}

fn warning(connect: &Connection, name: &MachineName, what: &str) -> Option<String> {
    let uri = connect.as_str();
    let exposure = Exposure::of(uri)?;
    let host = Remote::of(uri)?.host;
    let file = format!("machines/{name}/connection");
    Some(match exposure {
        Exposure::InClear => format!(
            "{what} of {name} pass between here and {host} in clear, and whoever is in between can read and change them; write a URI with qemu+ssh:// or qemu+tls:// to {file}"
        ),
        Exposure::AnyHost => format!(
            "{what} of {name} pass between here and whatever answers as {host}, for nothing checks who that is; take no_verify or known_hosts_verify out of the URI in {file}"
        ),
        Exposure::NewHost => format!(
            "{what} of {name} pass between here and whatever answers as {host} when it is met first; take known_hosts_verify=auto out of the URI in {file} once its key is known"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_others_can_read_or_answer_is_named_with_the_way_out() {
        let said = |uri: &str| warning(&uri.parse().unwrap(), &"web".parse().unwrap(), "secrets");
        let clear = said("qemu+tcp://root@server:16509/system").unwrap();
        assert!(clear.starts_with("secrets of web pass between here and server in clear"), "{clear}");
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
