//! A guest's `/etc/resolv.conf`.

use std::net::IpAddr;

use super::quote;
use super::text::public_text;
use crate::error::Failure;

/// Most bytes of a `resolv.conf`; a real one has a few hundred.
const MOST: usize = 16 << 10;

/// The text of a guest's `/etc/resolv.conf`, kept byte for byte; see resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf(String);

public_text!(ResolvConf);

impl ResolvConf {
    fn check(text: &str) -> Result<(), Failure> {
        if text.len() > MOST {
            return Err(refuse(format!("a resolv.conf of {} bytes is too long", text.len()))
                .hint(format!("it may have up to {MOST} bytes")));
        }
        for (i, line) in text.split('\n').enumerate() {
            check_line(line)
                .map_err(|why| refuse(format!("line {} of resolv.conf, {}, {why}", i + 1, quote(line))))?;
        }
        Ok(())
    }
}

fn refuse(message: String) -> Failure {
    Failure::user(message).hint(
        "each line is blank, a comment (`#` or `;`), or begins with `nameserver ADDRESS`, `search`, `domain`, `sortlist` or `options`; see resolv.conf(5)",
    )
}

/// Refuses lines that the C library would silently skip or misread.
fn check_line(line: &str) -> Result<(), &'static str> {
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err("holds a control character (the lines must end in LF alone)");
    }
    // The C library takes comments and keywords in the first column only.
    if line.trim().is_empty() || line.starts_with(['#', ';']) {
        return Ok(());
    }
    let (keyword, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    match keyword {
        "nameserver" => {
            let address = value.split_whitespace().next().unwrap_or_default();
            let without_scope = address.split_once('%').map_or(address, |(address, _)| address);
            let known = without_scope.parse::<IpAddr>().is_ok();
            if known { Ok(()) } else { Err("does not give the address of a nameserver") }
        }
        "search" | "domain" | "sortlist" | "options" if value.trim().is_empty() => Err("says nothing"),
        "search" | "domain" | "sortlist" | "options" => Ok(()),
        _ => Err("is none that the resolver knows"),
    }
}

/// Cloudflare's resolvers.
impl Default for ResolvConf {
    fn default() -> Self {
        ResolvConf("nameserver 1.1.1.1\nnameserver 1.0.0.1\n".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        ResolvConf::check(ResolvConf::default().as_str()).unwrap();
    }

    #[test]
    fn a_text_is_kept_byte_for_byte() {
        for good in [
            "",
            "\n\n",
            "# 'quoted' ${HOME} \\ {{ x }}\nnameserver 1.1.1.1 # ours",
            "; c\nnameserver\tfe80::1%eth0\nsearch a.example b.example\noptions edns0 trust-ad\nsortlist 10.0.0.0/8\n",
        ] {
            assert_eq!(good.parse::<ResolvConf>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_the_resolver_would_skip_is_refused_with_its_line() {
        for (bad, message) in [
            (
                "\nnameserver 1.1.1\n",
                "line 2 of resolv.conf, `nameserver 1.1.1`, does not give the address of a nameserver",
            ),
            (
                "nameserver\n",
                "line 1 of resolv.conf, `nameserver`, does not give the address of a nameserver",
            ),
            (
                "nameservr 1.1.1.1\n",
                "line 1 of resolv.conf, `nameservr 1.1.1.1`, is none that the resolver knows",
            ),
            (
                " nameserver 1.1.1.1\n",
                "line 1 of resolv.conf, ` nameserver 1.1.1.1`, is none that the resolver knows",
            ),
            ("search \n", "line 1 of resolv.conf, `search `, says nothing"),
        ] {
            assert_eq!(bad.parse::<ResolvConf>().unwrap_err().to_string(), message);
        }
        for bad in ["nameserver 1.1.1.1\0\n", "nameserver 1.1.1.1\r\n", "# \u{1b}[2J\n"] {
            assert!(
                bad.parse::<ResolvConf>().unwrap_err().to_string().contains("control character"),
                "{bad:?}"
            );
        }
        assert!("#".repeat(MOST + 1).parse::<ResolvConf>().is_err());
    }
}
