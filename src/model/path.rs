//! Paths in what is printed as JSON.

use std::path::Path;

use serde::Serializer;

/// Serialises a path as text; bytes that are not UTF-8 are shown as `U+FFFD`.
///
/// serde would refuse such a path, and the whole result with it. Every path of a result has `#[serde(serialize_with = "…")]`
/// with this or [`texts`]; `tests/architecture` finds the others.
pub fn text<S: Serializer>(path: impl AsRef<Path>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.as_ref().display())
}

/// Serialises several paths as [`text`] does one.
pub fn texts<S: Serializer>(paths: &[impl AsRef<Path>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| path.as_ref().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    #[derive(serde::Serialize)]
    struct Result {
        #[serde(serialize_with = "super::text")]
        file: PathBuf,
        #[serde(serialize_with = "super::texts")]
        files: Vec<PathBuf>,
    }

    #[test]
    fn a_path_that_is_not_utf_8_is_text_all_the_same() {
        let file = PathBuf::from(OsStr::from_bytes(b"/a\xff/b"));
        let result = Result { files: vec![file.clone()], file };
        let json = serde_json::to_string(&result).unwrap();
        assert_eq!(json, "{\"file\":\"/a\u{fffd}/b\",\"files\":[\"/a\u{fffd}/b\"]}");
    }
}
