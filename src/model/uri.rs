//! libvirt's connection URIs: where the daemon runs, whose it is, and how ssh reaches it.
//!
//! See libvirt's page "Connection URIs" (uri.html).

use percent_encoding::percent_decode_str;

/// Returns whether the daemon at `uri` runs on this host.
pub fn is_local(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(_, rest)| rest.starts_with('/'))
}

/// Returns whether the daemon at `uri` is one user's own, without root's rights.
pub fn is_session(uri: &str) -> bool {
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    path.ends_with("/session")
}

/// What an attacker on the network path to a daemon can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Read and change everything.
    InClear,
    /// Impersonate its host, whose key or certificate is not checked.
    AnyHost,
    /// Impersonate its host at the first connection: an unknown key is accepted.
    NewHost,
}

impl Exposure {
    /// Returns the exposure of the daemon at `uri`; `None` if its transport is secure, or is the user's own command (`ext`).
    pub fn of(uri: &str) -> Option<Self> {
        let remote = Remote::of(uri)?;
        let transport = transport_of(uri);
        let query = uri.split('#').next()?.split_once('?').map_or("", |(_, query)| query);
        let value = |name: &str| value_in(query, name);
        let no_verify = value("no_verify").is_some_and(|value| value != "0");
        match transport {
            "tcp" => Some(Exposure::InClear),
            "tls" if no_verify => Some(Exposure::AnyHost),
            "ssh" | "libssh" | "libssh2" if remote.unverified => Some(Exposure::AnyHost),
            "libssh" | "libssh2" if value("known_hosts_verify").as_deref() == Some("auto") => {
                Some(Exposure::NewHost)
            }
            _ => None,
        }
    }
}

/// Returns the transport of a URI of another host; `tls` if it names none.
fn transport_of(uri: &str) -> &str {
    let scheme = uri.split_once("://").map_or(uri, |(scheme, _)| scheme);
    scheme.split_once('+').map_or("tls", |(_, transport)| transport)
}

/// Returns the first value of that name in a URI's query, decoded; `None` if it is missing or empty.
fn value_in(query: &str, name: &str) -> Option<String> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.find(|(key, _)| *key == name).map(|(_, value)| decoded(value)).filter(|value| !value.is_empty())
}

/// Another host with libvirt, and how to log in there according to its URI. The user's own ssh configuration gives the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    pub host: String,
    pub user: Option<String>,
    pub port: Option<u16>,
    /// The program to use instead of ssh (`command`).
    pub program: Option<String>,
    /// The private key to log in with (`keyfile`).
    pub key: Option<String>,
    /// The file with the host's key (`known_hosts`).
    pub known_hosts: Option<String>,
    /// Whether any key of the host is accepted (`no_verify`, `known_hosts_verify=ignore`).
    pub unverified: bool,
}

impl Remote {
    /// Returns the host of a libvirt URI; `None` if the daemon runs on this one.
    pub fn of(uri: &str) -> Option<Self> {
        let (_, rest) = uri.split_once("://")?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().filter(|authority| !authority.is_empty())?;
        let (user, server) = match authority.rsplit_once('@') {
            Some((user, server)) => (Some(decoded(user)).filter(|user| !user.is_empty()), server),
            None => (None, authority),
        };
        // An IPv6 address stands in brackets because of its colons.
        let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => (address, rest.strip_prefix(':')),
            None => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
        };
        let remote = Remote { host: decoded(host), ..Remote::default() };
        let transport = transport_of(uri);
        if !["ssh", "libssh", "libssh2"].contains(&transport) {
            // Its user and port belong to another protocol than ssh.
            return Some(remote);
        }
        let value = |name: &str| value_in(query, name);
        let own = transport == "ssh";
        Some(Remote {
            user,
            port: port.and_then(|port| port.parse().ok()),
            program: value("command").filter(|_| own),
            key: value("keyfile"),
            known_hosts: value("known_hosts").filter(|_| !own),
            unverified: if own {
                value("no_verify").is_some_and(|value| value != "0")
            } else {
                value("known_hosts_verify").as_deref() == Some("ignore")
            },
            ..remote
        })
    }
}

/// Returns the text with percent-encoding decoded (RFC 3986).
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_tell_where_and_whose_the_daemon_is() {
        for (uri, local, session) in [
            ("qemu:///system", true, false),
            ("qemu:///session", true, true),
            ("qemu:///session?socket=/run/x", true, true),
            ("qemu+unix:///session", true, true),
            ("qemu+ssh://root@host/system", false, false),
            ("qemu+ssh://host/session", false, true),
            ("test:///default", true, false),
        ] {
            assert_eq!((is_local(uri), is_session(uri)), (local, session), "{uri}");
            assert_eq!(Remote::of(uri).is_none(), local, "{uri}");
        }
    }

    #[test]
    fn what_is_sent_in_clear_or_to_anybody_is_known() {
        use Exposure::{AnyHost, InClear, NewHost};
        for (uri, exposed) in [
            ("qemu+tcp://host/system", Some(InClear)),
            ("qemu+tcp://me@[::1]:16509/session?no_verify=0", Some(InClear)),
            ("qemu://host/system?no_verify=1", Some(AnyHost)),
            ("qemu+tls://host/system?pkipath=/p&no_verify=1#x", Some(AnyHost)),
            ("qemu+ssh://host/system?no_verify=1", Some(AnyHost)),
            ("qemu+libssh://host/system?known_hosts_verify=ignore", Some(AnyHost)),
            ("qemu+libssh2://host/system?known_hosts_verify=auto", Some(NewHost)),
            ("qemu+ssh://host/system", None),
            ("qemu+ssh://host/system?no_verify=0&no_tty=1", None),
            ("qemu+ssh://host/system#?no_verify=1", None),
            ("qemu+libssh://host/system?known_hosts_verify=normal&no_verify=1", None),
            ("qemu+tls://host/system", None),
            ("qemu+ext://host/system?command=/c", None),
            ("qemu:///system?no_verify=1", None),
            ("qemu+tcp:///system", None),
        ] {
            assert_eq!(Exposure::of(uri), exposed, "{uri}");
        }
    }

    #[test]
    fn what_a_uri_says_of_ssh_is_read() {
        let host = |host: &str| Remote { host: host.into(), ..Remote::default() };
        let text = |text: &str| Some(text.to_owned());
        for (uri, remote) in [
            ("qemu+ssh://host/system", host("host")),
            (
                "qemu+ssh://me@host:2222/system?keyfile=/k%20y/a+b&no_verify=1&command=/opt/ssh&known_hosts=/k",
                Remote {
                    user: text("me"),
                    port: Some(2222),
                    key: text("/k y/a+b"),
                    program: text("/opt/ssh"),
                    unverified: true,
                    ..host("host")
                },
            ),
            (
                "qemu+libssh2://root@[2001:db8::7]:22/system?known_hosts=/k&known_hosts_verify=ignore&command=/x",
                Remote {
                    user: text("root"),
                    port: Some(22),
                    known_hosts: text("/k"),
                    unverified: true,
                    ..host("2001:db8::7")
                },
            ),
            ("qemu+ssh://[::1]/system", host("::1")),
            ("qemu+ssh://host/system?no_verify=0&keyfile=#x?", host("host")),
            // Ports and users of TLS and TCP are none of ssh's.
            ("qemu+tcp://me@host:16509/system", host("host")),
            ("qemu://host/system?no_verify=1", host("host")),
        ] {
            assert_eq!(Remote::of(uri), Some(remote), "{uri}");
        }
        for (text, plain) in [("a%2Fb%", "a/b%"), ("%zz%+4%4", "%zz%+4%4"), ("%é", "%é")] {
            assert_eq!(decoded(text), plain);
        }
    }
}
