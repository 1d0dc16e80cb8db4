//! From a name to a guest that answers ssh, is who its files say, and has what they declare.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::process::{host_any, run};
use crate::world::{A, ODD, OPEN_PORT, World};

pub fn create_start_ssh(world: &mut World) -> Result<Outcome> {
    let a = world.machine_a()?;

    let admin = world.admin(A, &["id", "-un"])?.ok()?;
    ensure!(admin.text() == "admin", "ssh without a user logs in as {admin}");
    let sudo = world.admin(A, &["sudo", "-n", "id", "-u"])?.ok()?;
    ensure!(sudo.text() == "0", "sudo without a password makes admin {sudo}");

    let user = world.nixvm(&["ssh", A, "user", "--", "id", "-un"])?.ok()?;
    ensure!(user.text() == "user", "ssh as user logs in as {user}");
    let sudo = world.nixvm(&["ssh", A, "user", "--", "sudo", "-n", "id", "-u"])?;
    ensure!(sudo.code != 0 && sudo.text() != "0", "user may use sudo:\n{sudo}");
    let root = world.nixvm(&["ssh", A, "root", "--", "id", "-u"])?;
    ensure!(root.code == 255 && root.stdout.is_empty(), "root may log in by ssh:\n{root}");

    // Words arrive as they were typed, and the guest's exit code comes back.
    let words = world.admin(A, &["printf", "%s\\n", ODD, "", "two words"])?.ok()?;
    ensure!(words.stdout == format!("{ODD}\n\ntwo words\n"), "the guest printed\n{words}");
    world.admin(A, &["sh", "-c", "exit 7"])?.fails(7)?;

    let status = world.nixvm(&["status", A])?.ok()?;
    ensure!(status.stdout.contains(&a.address.to_string()), "no {} in\n{status}", a.address);
    let idle = "open without a listener: tcp 80, 443";
    ensure!(status.stdout.contains(idle), "`status` names no ports that nothing listens on:\n{status}");
    let listed = world.nixvm(&["list", "--json"])?.ok()?;
    let listed: serde_json::Value =
        serde_json::from_str(&listed.stdout).with_context(|| listed.to_string())?;
    let row = listed.as_array().into_iter().flatten().find(|row| row["name"] == A);
    ensure!(row.is_some_and(|row| row["state"] == "running"), "{A} is not listed as running: {listed:#}");
    Ok(Outcome::Passed)
}

pub fn the_host_key_is_the_machines_own(world: &mut World) -> Result<Outcome> {
    let a = world.machine_a()?;
    let declared = key_alone(&world.file(A, "ssh_host_ed25519_key.pub")?)?;
    let mut scan = std::process::Command::new("ssh-keyscan");
    scan.args(["-T", "20"]).arg(a.address.to_string());
    let scanned = run(&mut scan, b"", Duration::from_secs(60))?.ok()?;
    let keys: Vec<&str> = scanned.stdout.lines().filter(|line| !line.starts_with('#')).collect();
    ensure!(keys.len() == 1, "one host key expected: {scanned}");
    let offered = keys[0].split_once(' ').context("ssh-keyscan printed no key")?.1;
    ensure!(offered == declared, "the guest offers {offered}, its file says {declared}");

    // A guest that is not who the files say: nothing may be run in it.
    let folder = world.machine_dir(A);
    let files = ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"].map(|name| folder.join(name));
    let other = world.dir.join("other-key");
    host_any(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", &other.display().to_string()])?
        .ok()?;
    let kept = [fs::read(&files[0])?, fs::read(&files[1])?];
    fs::write(&files[0], fs::read(&other)?)?;
    fs::write(&files[1], fs::read(other.with_extension("pub"))?)?;
    let refused = world.admin(A, &["echo", "let in"]);
    fs::write(&files[0], &kept[0])?;
    fs::write(&files[1], &kept[1])?;
    let refused = refused?;
    ensure!(refused.code == 255, "another host key than the machine's was taken:\n{refused}");
    ensure!(
        refused.stdout.is_empty() && refused.stderr.contains("erification failed"),
        "unclear why:\n{refused}"
    );
    world.admin(A, &["true"])?.ok()?;
    Ok(Outcome::Passed)
}

fn key_alone(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    ensure!(words.len() == 2 && words[0] == "ssh-ed25519", "no ed25519 key: {line}");
    Ok(words.join(" "))
}

pub fn what_is_declared_arrives_byte_for_byte(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let in_guest =
        |path: &str| Ok::<_, anyhow::Error>(world.guest_root(A, &format!("cat {path}"))?.ok()?.stdout);
    let mut wrong = Vec::new();
    let mut same = |what: &str, guest: &str, declared: &str| {
        if guest != declared {
            wrong.push(format!("{what}: the guest has {guest:?}, declared is {declared:?}"));
        }
    };

    let hostname = world.file(A, "hostname")?;
    same("hostname", &in_guest("/proc/sys/kernel/hostname")?, &format!("{}\n", hostname.trim()));
    let machine_id = world.file(A, "machine-id")?;
    same("machine-id", &in_guest("/etc/machine-id")?, &format!("{}\n", machine_id.trim()));
    let domain = host::defined(A)?;
    let uuid = host::element(&domain, "uuid").context("the domain has no UUID")?.replace('-', "");
    same("the domain's UUID", &uuid, machine_id.trim());
    let mac = host::attribute(&domain, "mac", "address").context("the domain has no MAC")?;
    same("the domain's MAC", mac, world.file(A, "mac-address")?.trim());
    let hosts = in_guest("/etc/hosts")?;
    ensure!(
        hosts.contains("127.0.0.1 localhost\n")
            && hosts.ends_with(&format!("\n127.0.0.2 {}\n", hostname.trim())),
        "hosts is {hosts:?}"
    );
    same("resolv.conf", &in_guest("/etc/resolv.conf")?, &world.file(A, "resolv.conf")?);

    // The key's comment is the odd one: the agent gave it to `create`, which wrote it to the file.
    let admin_keys = world.file(A, "admin_authorized_keys")?;
    ensure!(admin_keys.contains(ODD), "the agent's comment is not in admin_authorized_keys: {admin_keys}");
    for (user, declared) in [("admin", &admin_keys), ("user", &world.file(A, "user_authorized_keys")?)] {
        let found = in_guest(&format!("/nix/.delta/machine/authorized_keys/{user}"))?;
        same(&format!("keys of {user}"), &lines(&found), &lines(declared));
    }

    let release = in_guest("/etc/nixvm-release")?;
    let digest = host::attribute(&domain, "nixvm:generation", "digest");
    for (name, value) in
        [("MACHINE", Some(A)), ("PROFILE", Some("core")), ("GENERATION", Some("1")), ("DIGEST", digest)]
    {
        let given = release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|v| v.trim_matches('"'));
        same(&format!("nixvm-release, {name}"), &format!("{given:?}"), &format!("{value:?}"));
    }

    let vcpus = if host::is_emulated(A)? { "1" } else { "2" };
    same("vcpus", world.admin(A, &["nproc"])?.ok()?.text(), vcpus);
    let status = world.nixvm(&["status", A, "--json"])?.ok()?;
    let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
    same("guest_vcpus", &status["guest_vcpus"].to_string(), vcpus);
    let memory = in_guest("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).context("no MemTotal")?.parse()?;
    // The kernel keeps some for itself.
    ensure!((800 << 10..=1 << 20).contains(&kib), "1024 MiB declared, the guest has {kib} KiB");
    let size: u64 = world
        .guest_root(A, "blockdev --getsize64 /dev/disk/by-id/virtio-nixvm-data")?
        .ok()?
        .text()
        .parse()?;
    ensure!(size == 4 << 30, "a data disk of 4 GiB declared, the guest has {size} bytes");
    let rules = world.guest_root(A, "nft list ruleset 2>/dev/null || iptables-save")?.ok()?.stdout;
    ensure!(rules.contains(&OPEN_PORT.to_string()), "no port {OPEN_PORT} in the guest's firewall:\n{rules}");

    ensure!(wrong.is_empty(), "not as declared:\n{}", wrong.join("\n"));
    Ok(Outcome::Passed)
}

/// The items of a file of lines: what is neither blank nor a comment, exactly as it stands.
fn lines(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
}
