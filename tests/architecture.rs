//! Imports run one way, as the picture at the top of `src/lib.rs` says.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::Path;

use walkdir::WalkDir;

/// Every module with the modules it may import from, lowest first.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("error", &[]),
    ("interrupt", &["error"]),
    ("model", &["interrupt", "error"]),
    ("exec", BASICS),
    ("file", BASICS),
    ("libvirt", BASICS),
    ("config", TOOLS),
    ("journal", TOOLS),
    ("render", TOOLS),
    ("hypervisor", TOOLS),
    ("storage", TOOLS),
    ("nix", TOOLS),
    ("backup", &["exec", "file", "model", "interrupt", "error"]),
    ("ops", PARTS),
    (
        "cli",
        &[
            "ops",
            "nix",
            "storage",
            "hypervisor",
            "backup",
            "render",
            "config",
            "journal",
            "exec",
            "file",
            "model",
            "interrupt",
            "error",
        ],
    ),
    ("main", &["cli"]),
];
const BASICS: &[&str] = &["model", "interrupt", "error"];
const TOOLS: &[&str] = &["exec", "file", "libvirt", "model", "interrupt", "error"];
const PARTS: &[&str] = &[
    "nix",
    "storage",
    "hypervisor",
    "backup",
    "render",
    "config",
    "journal",
    "exec",
    "file",
    "model",
    "interrupt",
    "error",
];

fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix("src").unwrap();
    relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Returns the top-level modules that a source file names through `crate::` or `nixvm::`.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        ["crate::", "nixvm::"]
            .into_iter()
            .flat_map(move |root| line.split(root).skip(1))
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>())
    })
    .filter(|name| MAY_IMPORT.iter().any(|(module, _)| module == name))
    .collect()
}

#[test]
fn every_module_imports_only_from_below() {
    let mut wrong = Vec::new();
    let mut files = 0;
    for entry in WalkDir::new("src").into_iter().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "rs") || path == Path::new("src/lib.rs") {
            continue;
        }
        files += 1;
        let module = module_of(path);
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{} belongs to no module of the picture", path.display()));
        for import in imports(&fs::read_to_string(path).unwrap()) {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(files >= MAY_IMPORT.len(), "only {files} files were read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_import_would_be_seen() {
    assert_eq!(
        imports("use crate::ops::create;\n// use crate::cli::x;\nlet a = crate::error::fail();"),
        ["ops", "error"]
    );
}

/// What root makes there must be the owner's, and `src/file` sees to that; whoever makes one elsewhere gives it away himself.
#[test]
fn files_and_folders_of_the_workspace_are_made_in_one_place() {
    let makers =
        ["fs::create_dir", "fs::write(", "File::create(", "DirBuilder", ".tempdir_in(", ".tempfile_in("];
    let mut wrong = Vec::new();
    for entry in WalkDir::new("src").into_iter().filter_map(Result::ok) {
        let path = entry.path();
        let in_tests = path
            .components()
            .any(|part| ["tests.rs", "trials", "trials.rs"].iter().any(|name| part.as_os_str() == *name));
        if path.extension().is_none_or(|e| e != "rs")
            || in_tests
            || path == Path::new("src/file.rs")
            || path.starts_with("src/file")
        {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text
            .split("#[cfg(test)]\npub(super) mod tests")
            .flat_map(|part| part.split("#[cfg(test)]\nmod tests"))
            .next()
            .unwrap_or_default();
        let gives = code.contains("file::give_");
        for (number, line) in code.lines().enumerate() {
            if makers.iter().any(|maker| line.contains(maker)) && !gives {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    // An archive is given away when it is whole and in the workspace (src/ops/backup); elsewhere it is root's.
    wrong.retain(|line| !line.starts_with("src/backup/part.rs:"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// serde refuses a path that is not UTF-8, and with it the whole result of an operation that is done.
#[test]
fn every_path_of_a_result_can_be_shown() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in WalkDir::new("src").into_iter().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let (mut serialised, mut before) = (false, "");
        for line in text.lines() {
            match line {
                _ if line.starts_with("#[derive(") => serialised = line.contains("Serialize"),
                "}" => serialised = false,
                _ => {}
            }
            let holds_path = ["PathBuf", "OsString", "&Path"].iter().any(|kind| line.contains(kind));
            if serialised && holds_path && line.trim_end().ends_with(',') {
                seen += 1;
                if !before.contains("model::path::text") && !before.contains("#[serde(skip)]") {
                    wrong.push(format!("{}: {}", path.display(), line.trim()));
                }
            }
            before = line;
        }
    }
    assert!(seen >= 8, "only {seen} paths were seen");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is shown is cleaned there, and a fault of an output ends nothing there. Elsewhere the two are only looked at.
#[test]
fn standard_output_and_error_are_written_in_one_place() {
    let mut wrong = Vec::new();
    for entry in WalkDir::new("src").into_iter().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "rs") || path == Path::new("src/cli/output.rs") {
            continue;
        }
        for line in fs::read_to_string(path).unwrap().lines() {
            let mut uses = ["stdout()", "stderr()"].into_iter().flat_map(|name| line.split(name).skip(1));
            let looks = |rest: &str| {
                [".as_fd()", ".is_terminal()", ".is_term()"].iter().any(|look| rest.starts_with(look))
            };
            if uses.any(|rest| !looks(rest)) {
                wrong.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    wrong.retain(|line| !line.contains(".for_stderr()"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
