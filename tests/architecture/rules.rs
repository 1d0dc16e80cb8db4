//! What is done in one place only, as far as the text of the code shows it.

use std::fs;
use std::path::Path;

use walkdir::WalkDir;

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
    // An archive is given away when it is whole and in the workspace (src/ops/backups/take); elsewhere it is root's.
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
