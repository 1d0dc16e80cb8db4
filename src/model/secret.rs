//! Recognising secrets, which must not get where others can read them.

use std::ffi::OsStr;

/// The files of a machine that nixvm reads or runs.
pub const MACHINE_FILES: [&str; 26] = [
    "profile",
    "hostname",
    "machine-id",
    "uuid",
    "mac-address",
    "network",
    "ssh_host_ed25519_key",
    "ssh_host_ed25519_key.pub",
    "admin_authorized_keys",
    "user_authorized_keys",
    "tcp_ports",
    "udp_ports",
    "root_password_hash",
    "resolv.conf",
    "pool",
    "host",
    "connection",
    "memory",
    "vcpus",
    "var_size",
    "autostart",
    "after",
    "protect",
    "extra.nix",
    "self-contained",
    "health-check",
];

/// Those that are secret, wherever somebody puts a copy.
pub const MACHINE_SECRETS: [&str; 2] = ["ssh_host_ed25519_key", "root_password_hash"];

/// Words in the name of a file or folder that mark its contents as secret.
const WORDS: [&str; 10] = [
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "credential",
    "credentials",
    "token",
    "tokens",
    "private",
];

/// Endings of the names of keys, key stores and nixvm's archives.
const ENDINGS: [&str; 8] = [".key", ".pem", ".p12", ".pfx", ".jks", ".kdbx", ".keytab", ".tar.zst"];

/// Names that ssh-keygen(1) gives to private keys.
const BEGINNINGS: [&str; 4] = ["id_rsa", "id_ed25519", "id_ecdsa", "id_dsa"];

/// The beginning of a PEM file (RFC 7468), up to its label.
const PEM: &[u8] = b"-----BEGIN ";

/// Returns whether a file or folder holds a secret by its name; sources in Nix and Rust never do.
pub fn is_secret_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    if [".nix", ".rs", ".pub"].iter().any(|ending| name.ends_with(ending)) {
        return false;
    }
    let mut words = name.split(|c: char| !c.is_alphanumeric());
    BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || words.any(|word| WORDS.contains(&word))
}

/// Returns whether a file that begins with these bytes is a private key.
pub fn is_private_key(start: &[u8]) -> bool {
    let line = start.strip_prefix(PEM).and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    line.is_some_and(|line| line.windows(11).any(|word| word == b"PRIVATE KEY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_words_endings_and_first_lines() {
        for name in
            ["secrets", "api-token", "db_password.txt", "TLS.KEY", "id_ed25519", "web-1.tar.zst", ".private"]
        {
            assert!(is_secret_name(OsStr::new(name)), "{name}");
        }
        for name in [
            "secrets.nix",
            "passwd.rs",
            "id_ed25519.pub",
            "tokenizer.c",
            "passwordless.conf",
            "keymap",
            "motd",
        ] {
            assert!(!is_secret_name(OsStr::new(name)), "{name}");
        }
        for (start, is) in [
            (&b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"[..], true),
            (b"-----BEGIN PRIVATE KEY-----", true),
            (b"-----BEGIN CERTIFICATE-----\nPRIVATE KEY", false),
            (b"PRIVATE KEY", false),
            (b"", false),
        ] {
            assert_eq!(is_private_key(start), is);
        }
    }
}
