//! What libvirt's AppArmor driver would let QEMU do, asked of the very program that writes its profiles.
//!
//! `virt-aa-helper` reads a domain's XML and the images' headers. In a dry run it prints the rules, and needs neither root nor
//! a kernel with AppArmor. `tests/apparmor.rs` includes this file too.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns the program, where this host's libvirt has it: that of Debian, Ubuntu and openSUSE.
pub fn program() -> Option<PathBuf> {
    let places = ["/usr/lib/libvirt", "/usr/libexec", "/usr/libexec/libvirt"];
    let found = places.iter().map(|place| Path::new(place).join("virt-aa-helper")).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: this host has no `virt-aa-helper` that could be asked");
    }
    found
}

/// The rules for files in a domain's profile.
#[derive(Debug, Default)]
pub struct Profile {
    /// Path, and what may be done with it: `r`, `w`, `k` (lock).
    allowed: Vec<(String, String)>,
    /// The same, for what may not be done whatever else is allowed.
    denied: Vec<(String, String)>,
}

impl Profile {
    /// Returns the profile that a domain with that XML would be started in.
    ///
    /// # Errors
    /// What the program said when it refused the domain: libvirt does not start it then.
    pub fn of(program: &Path, xml: &str) -> Result<Self, String> {
        let mut profile = Profile::default();
        profile.ask(program, xml, &[])?;
        Ok(profile)
    }

    /// Adds what libvirt adds for a file that it lets QEMU write to while the domain runs.
    pub fn append(&mut self, program: &Path, xml: &str, file: &str) {
        self.ask(program, xml, &["-F", file]).unwrap();
    }

    fn ask(&mut self, program: &Path, xml: &str, more: &[&str]) -> Result<(), String> {
        let uuid = xml.split_once("<uuid>").unwrap().1.split_once('<').unwrap().0;
        let mut asked = Command::new(program)
            .args(["-d", "-r", "-u", &format!("libvirt-{uuid}")])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        asked.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
        let answered = asked.wait_with_output().unwrap();
        let said = String::from_utf8(answered.stderr).unwrap();
        if !answered.status.success() {
            return Err(said);
        }
        for line in said.lines().map(str::trim) {
            let (rules, line) = match line.strip_prefix("deny ") {
                Some(line) => (&mut self.denied, line),
                None => (&mut self.allowed, line),
            };
            let rule = line.strip_prefix('"').and_then(|line| line.strip_suffix(','));
            if let Some((path, permissions)) = rule.and_then(|rule| rule.rsplit_once("\" ")) {
                rules.push((path.to_owned(), permissions.to_owned()));
            }
        }
        Ok(())
    }

    /// Returns whether QEMU may do all that `wanted` names with the file.
    pub fn lets(&self, file: &str, wanted: &str) -> bool {
        // AppArmor decides by the path behind all links, and the rules are for that. A file may not be there yet.
        let path = Path::new(file);
        let folder = fs::canonicalize(path.parent().unwrap()).unwrap();
        let file = folder.join(path.file_name().unwrap()).display().to_string();
        let has = |rules: &[(String, String)], what| {
            rules.iter().any(|(path, permissions)| *path == file && permissions.contains(what))
        };
        wanted.chars().all(|what| has(&self.allowed, what) && !has(&self.denied, what))
    }
}
