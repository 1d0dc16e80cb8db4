//! One line of an `authorized_keys` file.

use ssh_key::{Algorithm, PublicKey};

use crate::error::Failure;
use crate::model::quote;
use crate::model::text::public_text;

/// The options that sshd accepts before a key; sshd(8), AUTHORIZED_KEYS FILE FORMAT.
///
/// sshd ignores a key with an unknown option, and reports that only in the guest's journal.
const FLAGS: [&str; 2] = ["cert-authority", "restrict"];

/// Options that sshd also accepts with `no-` before them.
const SWITCHES: [&str; 7] = [
    "agent-forwarding",
    "port-forwarding",
    "pty",
    "touch-required",
    "user-rc",
    "verify-required",
    "x11-forwarding",
];
const SETTINGS: [&str; 8] =
    ["command", "environment", "expiry-time", "from", "permitlisten", "permitopen", "principals", "tunnel"];

/// Longest line that sshd reads (`SSH_MAX_PUBKEY_BYTES` in OpenSSH's authfile.h).
const LONGEST: usize = 16384;

/// One line of an `authorized_keys` file, kept byte for byte: a key that sshd(8) accepts, with optional options before it
/// and a comment after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuthorizedKey(String);

public_text!(AuthorizedKey);

impl AuthorizedKey {
    /// Returns the key alone, `TYPE BASE64`: what makes two lines the same key.
    pub fn key(&self) -> String {
        let rest = split(&self.0).map_or(self.0.as_str(), |(_, rest)| rest);
        rest.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Returns whether its key signs certificates that let people in (`cert-authority`).
    pub fn is_authority(&self) -> bool {
        let options = split(&self.0).map_or("", |(options, _)| options);
        each(options).any(|option| option.eq_ignore_ascii_case("cert-authority"))
    }

    fn check(line: &str) -> Result<(), Failure> {
        let refuse = |why: &str| {
            Failure::user(format!("{} is not a line of authorized keys: {why}", quote(line)))
                .hint("give one public key in one line, as in `~/.ssh/id_ed25519.pub`: `ssh-ed25519 AAAA… you@host`")
        };
        if line.contains(['\0', '\n', '\r']) {
            return Err(refuse("it holds a NUL or the end of a line"));
        }
        if line.len() > LONGEST {
            return Err(refuse("it is too long for sshd"));
        }
        if line.starts_with(|c: char| c.is_ascii_whitespace()) {
            return Err(refuse("it begins with a blank"));
        }
        if line.contains("PRIVATE KEY") {
            return Err(Failure::user("a private key (not shown here) stands where a public one belongs")
                .hint("give the file that ends in `.pub`"));
        }
        let (options, rest) = split(line).ok_or_else(|| refuse("a quote in its options is not closed"))?;
        check_key(rest).map_err(&refuse)?;
        check_options(options).map_err(|option| refuse(&format!("sshd knows no option {}", quote(option))))
    }
}

/// Returns a line's options, empty where there are none, and the rest from the key's type on.
///
/// As in sshd: a line that begins with a key has no options; otherwise they end at the first blank outside quotes.
fn split(line: &str) -> Option<(&str, &str)> {
    if check_key(line).is_ok() {
        return Some(("", line));
    }
    let end = unquoted(line, |b| b == b' ' || b == b'\t')?;
    let (options, rest) = line.split_at(end);
    let rest = rest.trim_ascii_start();
    // Without a key after them, the "options" are a broken key, and the message should say so.
    Some(if rest.contains([' ', '\t']) && looks_like_type(rest) { (options, rest) } else { ("", line) })
}

fn looks_like_type(rest: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| rest.starts_with(prefix))
}

/// Returns the place of the first byte outside quotes for which `stops` holds, or the end; `None` if a quote is left open.
fn unquoted(text: &str, stops: impl Fn(u8) -> bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut inside) = (0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if bytes.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => inside = !inside,
            byte if !inside && stops(byte) => return Some(at),
            _ => {}
        }
        at += 1;
    }
    (!inside).then_some(at)
}

fn check_key(text: &str) -> Result<(), &'static str> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let (Some(kind), Some(data)) = (words.next(), words.next()) else {
        return Err("there is no key");
    };
    if kind.ends_with("-cert-v01@openssh.com") {
        // sshd never matches such a line (auth2-pubkeyfile.c), so nobody could log in with it.
        return Err(
            "sshd lets nobody in by a certificate here; give the plain key, or `cert-authority` and the key that signs",
        );
    }
    let key =
        PublicKey::from_openssh(&format!("{kind} {data}")).map_err(|_| "there is no OpenSSH public key")?;
    match key.algorithm() {
        Algorithm::Dsa => Err("OpenSSH has dropped DSA; make a key with `ssh-keygen -t ed25519`"),
        Algorithm::Other(_) => Err("its type is not known"),
        _ => Ok(()),
    }
}

/// The error is the first option that sshd does not know.
fn check_options(options: &str) -> Result<(), &str> {
    each(options).find(|option| !is_known(option)).map_or(Ok(()), Err)
}

fn is_known(option: &str) -> bool {
    let option = option.to_ascii_lowercase();
    match option.split_once('=') {
        Some((name, value)) => {
            SETTINGS.contains(&name) && value.len() >= 2 && value.starts_with('"') && value.ends_with('"')
        }
        None => {
            FLAGS.contains(&option.as_str())
                || SWITCHES.contains(&option.strip_prefix("no-").unwrap_or(&option))
        }
    }
}

/// Returns the options, which commas outside quotes separate.
fn each(mut options: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let end = unquoted(options, |b| b == b',').unwrap_or(options.len());
        let (option, rest) = options.split_at(end);
        options = rest.strip_prefix(',').unwrap_or_default();
        (!option.is_empty() || !rest.is_empty()).then_some(option)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ/cF2XbAI+KlH9I9okb1YvimEsMrKOPVg5KTyq11t6";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBMZti0uRJdO3JixY0q9mmfl0pS+SxhkhGCOQSTY5+7A4w1GSHRfevKVOXmX95XV9Ceo6e4KUcgOBAnvfWPkSULc=";
    const SK: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo=";

    #[test]
    fn a_line_is_kept_byte_for_byte() {
        for comment in ["", " ", " admin@laptop", " it's \"q\" \\ ${HOME} '' & < {{ # é \t x "] {
            for key in [ED25519, ECDSA, SK] {
                let line = format!("{key}{comment}");
                let parsed: AuthorizedKey = line.parse().unwrap();
                assert_eq!(parsed.as_str(), line);
                assert_eq!(parsed.key(), key);
            }
        }
    }

    #[test]
    fn options_before_a_key() {
        for options in [
            "restrict",
            "no-pty,no-X11-forwarding",
            r#"command="echo \"a b, c\"",from="10.0.0.0/8,!10.0.0.1""#,
            "cert-authority",
        ] {
            let parsed: AuthorizedKey = format!("{options} \t{ED25519} me").parse().unwrap();
            assert_eq!(parsed.key(), ED25519);
            assert_eq!(parsed.is_authority(), options == "cert-authority");
        }
        for options in ["restrickt", "command", "command=ls", "pty=\"1\"", r#"command="a"b""#] {
            let error = format!("{options} {ED25519}").parse::<AuthorizedKey>().unwrap_err().to_string();
            assert!(error.contains("sshd knows no option") || error.contains("not closed"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let broken = &ED25519[..ED25519.len() - 4];
        let mismatch = ED25519.replace("ssh-ed25519", "ssh-rsa");
        let newline = format!("{ED25519} a\n{ED25519}");
        for bad in [
            "",
            "ssh-ed25519",
            "hello world",
            "ssh-ed25519 !!!!",
            broken,
            &mismatch,
            &newline,
            &format!("{ED25519} a\0"),
            &format!("{ED25519}\r"),
            &format!(" {ED25519}"),
            "# a comment",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            &format!("{ED25519} {}", "x".repeat(LONGEST)),
        ] {
            assert!(bad.parse::<AuthorizedKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_sshd_would_ignore_is_refused() {
        let dsa = "ssh-dss AAAAB3NzaC1kc3MAAACBAIKa3tuCVrBN1W4xm9to3R5C5sGbGmJo36q2hcUUwTmUWgeej/D51Mnqn5G/g7gQNWlp7hAIbyBkAI4ws9jr4v4D/3jmer9A62A5M52hVM0U0gKcB2VErYZwni4j7a39HpIRtDBkGad/n2d72thdzFfU7jG8xoXJ7IwEtwCt9Fu7AAAAFQC2M8lYuau9iHFYs7niUunp8BATvwAAAIB9sAPqdghe4vjVkeWgFJ3Yy2zwyLLxtAQFUJSVr2iZKFFQfCLaVeBsStSn8f772smNC/KIGEtYk4oZoW/K46qo+vjS1zNxCkpdj4RRF9+dZ9vpsCUbtWBykOUhB3dciOY3dcWmbqoHbakO5RvTdM73ZJf2oSZaq1pPXXllRlRmAAAAAIBGQDYkU1HjumZ8r6cw19txTINmNue5IbIzjAY80YHEv43b9sEvn5pyH3hnDiJQv2qzEpyER4hjatJOzT4ICcuNfq04hQwZ7Iwo82p6JiQ0gJu35mAiFLYtDTQHQSYiSYU5H67Bz27cVtG2fGOGZ7iFrnrqnum2g2qglAbVIKY3Xg==";
        assert!(dsa.parse::<AuthorizedKey>().unwrap_err().to_string().contains("dropped DSA"));
        let cert = "ssh-ed25519-cert-v01@openssh.com AAAA me";
        assert!(cert.parse::<AuthorizedKey>().unwrap_err().to_string().contains("by a certificate"));
    }
}
