//! Ports that a guest's firewall lets in.

use std::num::NonZeroU16;
use std::str::FromStr;

use super::quote;
use crate::error::Failure;

/// Ports of one protocol that a guest's firewall lets in, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Ports(Vec<u16>);

/// One port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(NonZeroU16);

impl Ports {
    /// ssh, http and https.
    pub fn default_tcp() -> Self {
        Ports(vec![22, 80, 443])
    }

    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }

    #[must_use]
    pub fn with(self, more: &[Port]) -> Self {
        let own = self.0.into_iter().filter_map(NonZeroU16::new).map(Port);
        own.chain(more.iter().copied()).collect()
    }
}

impl FromIterator<Port> for Ports {
    fn from_iter<I: IntoIterator<Item = Port>>(ports: I) -> Self {
        let mut ports: Vec<u16> = ports.into_iter().map(|Port(port)| port.get()).collect();
        ports.sort_unstable();
        ports.dedup();
        Ports(ports)
    }
}

impl FromStr for Port {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let text = text.trim_ascii_end();
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).map(Port).ok_or_else(|| {
            Failure::user(format!("{} is not a port", quote(text)))
                .hint("a port is a number from 1 to 65535, one a line, comments on lines of their own")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lines;

    #[test]
    fn sorted_and_each_once() {
        let ports: Ports = lines::parse("tcp_ports", "443\n22 \n80\n22\n").unwrap().into_iter().collect();
        assert_eq!(ports, Ports::default_tcp());
        assert_eq!(ports.as_slice(), [22, 80, 443]);
        let more: Vec<Port> = ["8080", "80"].map(|port| port.parse().unwrap()).into();
        assert_eq!(ports.with(&more).as_slice(), [22, 80, 443, 8080]);
    }

    #[test]
    fn only_ports() {
        for good in ["1", "22", "65535"] {
            assert!(good.parse::<Port>().is_ok(), "{good}");
        }
        for bad in ["", "0", "65536", "80-90", "ssh", "-1", "+80", "80,443", "80 # web", "8080/tcp"] {
            let error = bad.parse::<Port>().unwrap_err().to_string();
            assert_eq!(error, format!("`{bad}` is not a port"));
        }
    }
}
