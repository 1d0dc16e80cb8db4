//! Outputs that accept no text: full, closed, or without a reader. And text that must not reach a terminal.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::sandbox::{Ended, Sandbox};

const CREATE: [&str; 5] = ["create", "web", "--no-build", "--keys", "../home/key.pub"];

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// Runs the program in a shell with this redirection, such as `2>&-`.
fn redirected(sandbox: &Sandbox, arguments: &[&str], redirection: &str) -> Ended {
    let nixvm = sandbox.command(arguments);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("exec \"$@\" {redirection}")).arg("sh");
    shell.arg(nixvm.get_program()).args(nixvm.get_args());
    shell.current_dir(nixvm.get_current_dir().unwrap()).env_clear().stdin(Stdio::null());
    shell.envs(nixvm.get_envs().filter_map(|(name, value)| Some((name, value?))));
    sandbox.ended(&mut shell)
}

#[test]
fn a_full_or_closed_standard_error_ends_no_operation() {
    for redirection in ["2>/dev/full", "2>&-", "2>/dev/full >/dev/null", ">&- 2>&-"] {
        let sandbox = Sandbox::new();
        let created = redirected(&sandbox, &CREATE, redirection);
        assert_eq!(created.code, 0, "{redirection}: {created:?}");
        assert!(sandbox.path("machines/web/uuid").exists(), "{redirection}");
        // Notes, tables, errors, and a reader that has gone away.
        for (arguments, code) in [
            (&["create", "web", "--no-build", "--json"][..], 0),
            (&["list"], 0),
            (&["start", "nosuch"], 1),
            (&["start", "nosuch", "--json"], 1),
            (&["set", "web", "memory=64G"], 0),
            (&["nosuch"], 2),
        ] {
            let ended = redirected(&sandbox, arguments, redirection);
            assert_eq!(ended.code, code, "{arguments:?} {redirection}: {ended:?}");
        }
    }
}

#[test]
fn a_result_that_cannot_be_written_is_told_and_one_that_nobody_reads_is_not() {
    let sandbox = Sandbox::new();
    let lost = sandbox.ended(sandbox.command(&["list"]).stdout(full()));
    assert_eq!(lost.code, 1, "{lost:?}");
    assert!(
        lost.stderr.starts_with("error: the result is lost\ncause: cannot write to standard output"),
        "{lost:?}"
    );
    // The command's own exit code wins over the failed output.
    assert_eq!(sandbox.ended(sandbox.command(&["list", "--nosuch"]).stdout(full())).code, 2);
    assert_eq!(sandbox.ended(sandbox.command(&["list"]).stdout(full()).stderr(full())).code, 1);
    let gone = redirected(&sandbox, &["list"], "| true");
    assert_eq!((gone.code, gone.stderr.as_str()), (0, ""));
    assert_eq!(redirected(&sandbox, &["list", "--json"], ">&-").code, 0);
}

#[test]
fn a_path_that_is_not_utf_8_is_text_in_json() {
    let sandbox = Sandbox::new();
    let folder = sandbox.home().join(OsStr::from_bytes(b"a\xffb"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("web-20260120-171147.tar.zst"), "no archive").unwrap();
    let listed = sandbox.ended(sandbox.command(&["backups", "--json", "--from"]).arg(&folder));
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    let file = json[0]["file"].as_str().unwrap();
    assert!(file.ends_with("a\u{fffd}b/web-20260120-171147.tar.zst"), "{listed:?}");
}

#[test]
fn a_file_name_drives_no_terminal() {
    let sandbox = Sandbox::new();
    let folder = sandbox.home().join("a\x1b[2Jb\x1b]0;title\x07\u{9b}1mc");
    for arguments in [&["backups", "--from"][..], &["--json", "backups", "--from"]] {
        let listed = sandbox.ended(sandbox.command(arguments).arg(&folder));
        let said = format!("{}{}", listed.stdout, listed.stderr);
        assert!(said.len() > 1 && !said.chars().any(|c| c.is_control() && c != '\n'), "{listed:?}");
    }
}
