//! Promise 3: no secret of a machine is readable by another local user.
//!
//! Each search also looks for something planted, and has to find that: a search that finds nothing shows nothing.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{as_root, host as program, root, run};
use crate::world::{A, World, hash};

/// A machine of this test's own, so that its making and starting can be watched.
const C: &str = "e2e-c";

/// Whoever has no rights at all.
const ANYONE: &str = "nobody";

pub fn promise_3_no_secret_is_readable(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let planted = format!("planted-{:x}", rustix::process::getpid().as_raw_nonzero().get() * 7919);
    fs::write(world.dir.join("mark"), "")?;

    // The command lines of every process while a machine with secrets is made and started.
    host::write_private(
        &world.machine_dir(C).join("root_password_hash"),
        &format!("{}\n", hash("another")?),
    )?;
    let mut sleeper = Sleeper::named(&planted)?;
    let seen = watched(|| {
        world.nixvm(&["create", C, "core", "1024", "2", "4G", "nat", "--from-agent"])?.ok()?;
        world.nixvm(&["start", C])?.ok()
    })?;
    sleeper.0.kill()?;
    let mut secrets = secrets_of(world, A)?;
    secrets.extend(secrets_of(world, C)?);
    tell!("{} secrets; {} command lines", secrets.len(), seen.len());
    ensure!(seen.iter().any(|line| holds(line, planted.as_bytes())), "the planted command line was not seen");
    for line in &seen {
        none_in(&secrets, line, &String::from_utf8_lossy(line))?;
    }

    // What libvirt tells of every domain, also to whoever may see its secrets.
    let digest = host::attribute(&host::defined(C)?, "nixvm:generation", "digest").map(str::to_owned);
    let digest = digest.context("the domain carries no digest")?;
    let mut found = false;
    for domain in host::domains()? {
        for which in ["--inactive", "--security-info"] {
            let xml = host::virsh(&["dumpxml", which, &domain])?.stdout;
            found |= xml.contains(&digest);
            none_in(&secrets, xml.as_bytes(), &format!("the definition of {domain}"))?;
        }
    }
    ensure!(found, "the digest that {C} carries was not found in any definition");

    modes(world)?;
    files(world, &secrets, &planted)?;
    in_the_guest(world, &secrets)?;

    world.nixvm(&["force-stop", C])?.ok()?;
    world.nixvm(&["purge", C, "--yes"])?.ok()?;
    Ok(Outcome::Passed)
}

/// A secret as it may be found.
struct Secret {
    what: String,
    bytes: Vec<u8>,
}

fn secrets_of(world: &World, machine: &str) -> Result<Vec<Secret>> {
    let key = world.file(machine, "ssh_host_ed25519_key")?;
    let hash = world.file(machine, "root_password_hash")?;
    ensure!(hash.trim().len() > 20, "{machine} has no root password: {hash:?}");
    let mut secrets = vec![Secret { what: format!("root's hash of {machine}"), bytes: hash.trim().into() }];
    // Of the five lines of base64, the first two say only that this is a key and which public key belongs to it.
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).skip(2).collect();
    ensure!(body.len() >= 2, "the host key of {machine} is no OpenSSH private key");
    for line in body.into_iter().filter(|line| line.len() >= 40) {
        secrets.push(Secret { what: format!("a line of {machine}'s host key"), bytes: line.into() });
    }
    let parsed = ssh_key::PrivateKey::from_openssh(&key)?;
    let seed = parsed.key_data().ed25519().context("the host key is not ed25519")?.private.to_bytes();
    // grep goes by lines: of the bytes, those between two line feeds.
    let part = seed.split(|byte| *byte == b'\n').max_by_key(|part| part.len()).unwrap_or_default();
    secrets.push(Secret { what: format!("the bytes of {machine}'s host key"), bytes: part.into() });
    Ok(secrets)
}

fn none_in(secrets: &[Secret], text: &[u8], place: &str) -> Result<()> {
    for secret in secrets {
        ensure!(!holds(text, &secret.bytes), "{} is in {place}", secret.what);
    }
    Ok(())
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A process of that name.
struct Sleeper(Child);

impl Sleeper {
    fn named(name: &str) -> Result<Self> {
        Ok(Sleeper(Command::new("sleep").arg0(name).arg("3600").spawn()?))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns every command line that any process has while `work` is done.
fn watched<T>(work: impl FnOnce() -> Result<T>) -> Result<HashSet<Vec<u8>>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = HashSet::new();
            while !done.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    if entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
                        && let Ok(line) = fs::read(entry.path().join("cmdline"))
                    {
                        seen.insert(line);
                    }
                }
            }
            seen
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let seen = watcher.join().map_err(|_| anyhow::anyhow!("watching /proc failed"))?;
        result.map(|_| seen)
    })
}

fn modes(world: &World) -> Result<()> {
    for entry in walkdir::WalkDir::new(world.workspace.join("machines")).min_depth(1) {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        let private = if entry.file_type().is_dir() { 0o700 } else { 0o600 };
        ensure!(mode == private, "{} has mode {mode:o}", entry.path().display());
    }
    let read = |path: &str| {
        run(
            as_root("runuser").args(["-u", ANYONE, "--", "head", "-c", "1", path]),
            b"",
            Duration::from_secs(30),
        )
    };
    read(&world.workspace.join("flake.nix").display().to_string())?.ok()?;
    for machine in [A, C] {
        let key = world.machine_dir(machine).join("ssh_host_ed25519_key").display().to_string();
        let identity = host::volume(&world.pool, machine, "identity")?;
        let data = host::volume(&world.pool, machine, "data")?;
        for path in [key, identity, data] {
            let mode = host::stat("%a", &path)?;
            ensure!(mode.ends_with('0'), "{path} has mode {mode}");
            let got = read(&path)?;
            ensure!(got.code != 0 && got.stdout.is_empty(), "{ANYONE} can read {path}:\n{got}");
        }
    }
    Ok(())
}

/// Searches the whole Nix store and whatever was written since the mark, as somebody without rights.
fn files(world: &World, secrets: &[Secret], planted: &str) -> Result<()> {
    let in_store = world.dir.join("planted").display().to_string();
    fs::write(&in_store, planted)?;
    let nix = ["nix", "--extra-experimental-features", "nix-command", "store"];
    let add = [nix.as_slice(), &["add-path", &in_store]].concat();
    let store_path = program(&add)?.text().to_owned();

    let escaped = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let mut patterns: Vec<String> = secrets.iter().map(|secret| escaped(&secret.bytes)).collect();
    patterns.push(escaped(planted.as_bytes()));
    let pattern = world.dir.join("pattern");
    host::write_private(&pattern, &patterns.join("|"))?;
    let pattern_path = pattern.display().to_string();
    root("chown", &[ANYONE, &pattern_path])?;

    let world_dir = world.dir.display().to_string();
    let mut search = as_root("runuser");
    search.args(["-u", ANYONE, "--", "bash", "-c", SEARCH, "search", &pattern_path, &world_dir]);
    let found = run(&mut search, b"", Duration::from_secs(900))?;
    fs::remove_file(&pattern)?;
    program(&[nix.as_slice(), &["delete", &store_path]].concat())?;

    let hits: Vec<&str> = found.stdout.lines().filter(|path| *path != pattern_path).collect();
    let expected = [store_path, in_store];
    for path in &expected {
        ensure!(
            hits.contains(&path.as_str()),
            "the search does not find what was planted in {path}:\n{found}"
        );
    }
    let secret_in: Vec<&&str> =
        hits.iter().filter(|hit| !expected.iter().any(|path| path == **hit)).collect();
    ensure!(secret_in.is_empty(), "a secret can be read in {secret_in:?}");
    Ok(())
}

/// What cannot be read is none of the searcher's business, so complaints are dropped.
const SEARCH: &str = r#"
export LC_ALL=C
{
  find /nix/store -type f -print0
  find "$2" /tmp /var/tmp /run /var/log /var/lib/libvirt /var/cache/libvirt /etc/libvirt /nix/var -type f -newer "$2/mark" -print0
} 2>/dev/null | xargs -0r grep -laP -f "$1" -- 2>/dev/null | sort -u
exit 0
"#;

/// Searches what is packed into the images, where the guest has it unpacked; and who may read the secrets there.
fn in_the_guest(world: &World, secrets: &[Secret]) -> Result<()> {
    let digest = host::attribute(&host::defined(A)?, "nixvm:generation", "digest")
        .context("the domain carries no digest")?
        .to_owned();
    let text: Vec<String> =
        secrets.iter().filter_map(|secret| String::from_utf8(secret.bytes.clone()).ok()).collect();
    let script = format!(
        "export LC_ALL=C\ncat > /tmp/secrets <<'END'\n{}\nEND\n\
         echo control $(grep -rlaF -D skip {digest} /nix/.delta | wc -l)\n\
         echo secrets $(grep -rlaF -D skip -f /tmp/secrets /nix/.delta /nix/.base /boot | head)\n\
         rm /tmp/secrets",
        text.join("\n")
    );
    let found = world.guest_root(A, &script)?.ok()?;
    let control =
        found.stdout.lines().find_map(|line| line.strip_prefix("control ")?.parse().ok()).unwrap_or(0);
    ensure!(control > 0, "the search in the guest does not even find the machine's digest:\n{found}");
    ensure!(found.stdout.lines().any(|line| line.trim() == "secrets"), "a secret is in the image:\n{found}");

    let user = |words: &[&str]| world.nixvm(&[&["ssh", A, "user", "--"], words].concat());
    user(&["cat", "/etc/nixvm-release"])?.ok()?;
    for path in [
        "/run/nixvm/identity/ssh_host_ed25519_key",
        "/dev/disk/by-id/virtio-nixvm-identity",
        "/etc/shadow",
        "/run/nixvm/root_password_hash",
    ] {
        world.guest_root(A, &format!("head -c 1 {path} | wc -c | grep -x 1"))?.ok()?;
        let read = user(&["head", "-c", "1", path])?;
        ensure!(read.code != 0 && read.stdout.is_empty(), "in the guest, user can read {path}:\n{read}");
    }
    Ok(())
}
