//! Flake references: the one place where a path becomes one.
//!
//! A reference is a URL. In an unencoded path Nix takes `#` for the beginning of an output's name, `?` for that of
//! parameters and `^` for that of outputs, decodes `%41`, and refuses a blank, `é`, `\` or `[`.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// Characters to encode in a path: all but the unreserved ones of RFC 3986 and the slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Returns the flake reference of a folder; `path` is absolute.
pub fn of_path(path: &Path) -> String {
    format!("path:{}", percent_encode(path.as_os_str().as_encoded_bytes(), ENCODED))
}

/// Turns a reference that a person wrote into one for Nix; `base` is the folder that a relative path starts from.
///
/// A person writes a path literally, such as `path:/my base`. A reference that leads to a folder as Nix reads it is left
/// alone, and so is everything that is not a path on this computer.
pub fn typed(reference: &str, base: &Path) -> String {
    let (path, scheme) = match reference.strip_prefix("path:") {
        Some(path) => (path, true),
        None if reference.starts_with(['/', '.']) => (reference, false),
        None => return reference.to_owned(),
    };
    let (before_query, query) = match path.split_once('?') {
        Some((before, query)) if scheme => (before, Some(query)),
        _ => (path, None),
    };
    let decoded = percent_decode_str(before_query).decode_utf8_lossy();
    let as_nix_reads_it = base.join(decoded.as_ref());
    let literally = base.join(path);
    let (found, query) = match (scheme && as_nix_reads_it.is_dir(), literally.is_dir()) {
        (true, _) => (as_nix_reads_it, query),
        (false, true) => (literally, None),
        (false, false) => return reference.to_owned(),
    };
    // Of a git tree without `path:` Nix takes the tracked files, so only unreadable references are changed.
    if !scheme && !reference.contains(['#', '?', '%', '^']) && reference.starts_with('/') {
        return reference.to_owned();
    }
    // Nix 2.26 fails on a path that is a symbolic link.
    let found = found.canonicalize().unwrap_or(found);
    match query {
        Some(query) => format!("{}?{query}", of_path(&found)),
        None => of_path(&found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn everything_but_plain_letters_is_encoded() {
        for (path, reference) in [
            ("/w/flake-1.0_~a", "path:/w/flake-1.0_~a"),
            ("/w/a b/é", "path:/w/a%20b/%C3%A9"),
            ("/w/a#b?c%41^d", "path:/w/a%23b%3Fc%2541%5Ed"),
            (r#"/w/a\b"c'd&e+f=g$h[i]"#, "path:/w/a%5Cb%22c%27d%26e%2Bf%3Dg%24h%5Bi%5D"),
        ] {
            assert_eq!(of_path(Path::new(path)), reference);
        }
    }

    #[test]
    fn what_a_person_wrote_leads_where_they_meant() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["plain", "my base", "a#b", "50%", "q?x=y", "é"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("plain", root.join("link")).unwrap();
        let shown = |reference: &str| typed(reference, &root).replace(root.to_str().unwrap(), "ROOT");
        let absolute = |name: &str| shown(&format!("path:{}/{name}", root.display()));
        for (name, reference) in [
            ("plain", "path:ROOT/plain"),
            ("my base", "path:ROOT/my%20base"),
            ("my%20base", "path:ROOT/my%20base"),
            ("a#b", "path:ROOT/a%23b"),
            ("50%", "path:ROOT/50%25"),
            ("q?x=y", "path:ROOT/q%3Fx%3Dy"),
            ("é", "path:ROOT/%C3%A9"),
            ("link", "path:ROOT/plain"),
            ("plain?narHash=sha256-a", "path:ROOT/plain?narHash=sha256-a"),
            ("missing here", "path:ROOT/missing here"),
        ] {
            assert_eq!(absolute(name), reference);
        }
        assert_eq!(shown("path:my base"), "path:ROOT/my%20base");
        assert_eq!(shown("./my base"), "path:ROOT/my%20base");
        assert_eq!(typed("/plain/nixpkgs", &root), "/plain/nixpkgs");
        for other in ["github:NixOS/nixpkgs/nixos-26.05", "nixpkgs", "git+file:///a%20b"] {
            assert_eq!(typed(other, &root), other);
        }
    }
}
