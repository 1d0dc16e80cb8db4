//! What is true on the host, seen past nixvm: by virsh, stat and sha256sum.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Output, host_any, root};

const SYSTEM: &str = "qemu:///system";

/// Runs virsh on the system connection and returns what it did if it succeeded.
pub fn virsh(arguments: &[&str]) -> Result<Output> {
    virsh_any(arguments)?.ok()
}

/// Runs virsh on the system connection and returns what it did.
pub fn virsh_any(arguments: &[&str]) -> Result<Output> {
    host_any(&[&["env", "LC_ALL=C", "virsh", "--quiet", "--connect", SYSTEM], arguments].concat())
}

/// Gives virsh a definition, as in `virsh define FILE`.
pub fn define(verb: &str, xml: &str) -> Result<Output> {
    let mut virsh = std::process::Command::new("virsh");
    virsh.args(["--quiet", "--connect", SYSTEM, verb, "/dev/stdin"]);
    process::run(&mut virsh, xml.as_bytes(), Duration::from_secs(60))?.ok()
}

fn names(listed: &Output) -> Vec<String> {
    listed.stdout.split_whitespace().map(str::to_owned).collect()
}

/// Returns every domain's name.
pub fn domains() -> Result<Vec<String>> {
    Ok(names(&virsh(&["list", "--all", "--name"])?))
}

/// Returns the names of the domains that are up.
pub fn running_domains() -> Result<Vec<String>> {
    Ok(names(&virsh(&["list", "--name"])?))
}

/// Returns a domain's definition, with what libvirt keeps from ordinary readers; `None` where there is no such domain.
pub fn definition(domain: &str) -> Result<Option<String>> {
    if !domains()?.iter().any(|name| name == domain) {
        return Ok(None);
    }
    Ok(Some(virsh(&["dumpxml", "--inactive", "--security-info", domain])?.stdout))
}

/// Returns the definition of a domain that has to be there.
pub fn defined(domain: &str) -> Result<String> {
    definition(domain)?.with_context(|| format!("libvirt has no domain {domain}"))
}

/// Returns whether a domain runs without KVM.
pub fn is_emulated(domain: &str) -> Result<bool> {
    Ok(attribute(&defined(domain)?, "domain", "type") == Some("qemu"))
}

/// Returns a domain's state in libvirt's words.
pub fn state(domain: &str) -> Result<String> {
    Ok(virsh(&["domstate", domain])?.text().to_owned())
}

/// Returns whether there is a pool of that name, running.
pub fn has_pool(pool: &str) -> Result<bool> {
    let pools = virsh(&["pool-list", "--name"])?;
    Ok(pools.stdout.split_whitespace().any(|name| name == pool))
}

/// Returns the names of a pool's volumes, sorted: libvirt has them in the order in which it met them.
pub fn volumes(pool: &str) -> Result<Vec<String>> {
    virsh(&["pool-refresh", pool])?;
    let listed = virsh(&["vol-list", pool])?;
    let first = |line: &str| Some(line.split_whitespace().next()?.to_owned());
    let mut names: Vec<String> = listed.stdout.lines().filter_map(first).collect();
    names.sort();
    Ok(names)
}

/// Returns the names of a machine's volumes.
pub fn volumes_of(pool: &str, machine: &str) -> Result<Vec<String>> {
    let prefix = format!("{machine}.");
    Ok(volumes(pool)?.into_iter().filter(|name| name.starts_with(&prefix)).collect())
}

/// Returns the one volume of a machine whose name holds `role`.
pub fn volume(pool: &str, machine: &str, role: &str) -> Result<String> {
    let all = volumes_of(pool, machine)?;
    let found: Vec<&String> = all.iter().filter(|name| name[machine.len()..].contains(role)).collect();
    ensure!(found.len() == 1, "one {role} volume of {machine} expected, its volumes are {all:?}");
    volume_path(pool, found[0])
}

/// Returns a volume's path.
pub fn volume_path(pool: &str, volume: &str) -> Result<String> {
    Ok(virsh(&["vol-path", "--pool", pool, volume])?.text().to_owned())
}

/// Returns the bytes that a file takes on the host.
pub fn allocated(path: &str) -> Result<u64> {
    let blocks: u64 = stat("%b", path)?.parse()?;
    Ok(blocks * 512)
}

/// Returns what `stat` says of a file in its own format.
pub fn stat(format: &str, path: &str) -> Result<String> {
    Ok(root("stat", &["-L", "-c", format, path])?.text().to_owned())
}

/// Returns the SHA-256 of each of these files.
pub fn sha256(paths: &[String]) -> Result<String> {
    ensure!(!paths.is_empty(), "there is no file to look at");
    Ok(root("sha256sum", paths)?.stdout)
}

/// Returns the SHA-256 of every file below a folder, with their names and modes.
pub fn tree(folder: &Path) -> Result<String> {
    let script = r#"cd "$1" && find . -printf '%p %m %l\n' | LC_ALL=C sort && find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum"#;
    Ok(root("bash", &["-c".as_ref(), script.as_ref(), "tree".as_ref(), folder.as_os_str()])?.stdout)
}

/// Checks that nothing changed, and shows no more than the lines that did.
pub fn unchanged(what: &str, before: &str, now: &str) -> Result<()> {
    if before == now {
        return Ok(());
    }
    let only = |these: &str, those: &str, mark: &str| -> String {
        let rest: HashSet<&str> = those.lines().collect();
        these.lines().filter(|line| !rest.contains(line)).map(|line| format!("    {mark} {line}\n")).collect()
    };
    bail!("{what} changed something:\n{}{}", only(before, now, "-"), only(now, before, "+"));
}

/// Returns the value of an attribute, `mac address='…'`, in a libvirt document.
pub fn attribute<'a>(xml: &'a str, element: &str, name: &str) -> Option<&'a str> {
    let from_element = &xml[xml.find(&format!("<{element} "))?..];
    let tag = &from_element[..from_element.find('>')?];
    ['\'', '"'].into_iter().find_map(|quote| {
        let begin = tag.find(&format!(" {name}={quote}"))? + name.len() + 3;
        let value = &tag[begin..];
        Some(&value[..value.find(quote)?])
    })
}

/// Returns the text of the first element of that name.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let from = &xml[xml.find(&format!("<{name}>"))? + name.len() + 2..];
    Some(&from[..from.find('<')?])
}

/// Writes a file that only its owner reads, and its folder so too.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Writes a program that only its owner reads and runs.
pub fn write_program(path: &Path, text: &str) -> Result<()> {
    write_private(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o700))?)
}

/// Returns a size as people read it.
pub fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Returns whether a value is within its budget, in words.
pub fn against(value: f64, budget: f64) -> &'static str {
    if value <= budget { "within" } else { "OVER" }
}
