//! What a run takes from the host and gives back: at its end, or when the next one finds that it was killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

use crate::host;
use crate::process::{as_root, host_any, root, run, wait_for};

/// How names of pools and folders begin, so that what a killed run left behind is known again.
pub const PREFIX: &str = "nixvm-e2e-";

/// The user that is made where a test must not be root. Its home is in the world's folder, and so is everything that it makes.
pub const USER: &str = "nixvm-e2e";

/// Two runs at once would take each other's machines for a dead run's, for they share libvirt whatever their TMPDIR: the second
/// waits until the first is over.
pub fn lock() -> Result<fs::File> {
    let path = Path::new("/tmp/nixvm-e2e.lock");
    let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        println!("waiting for another run of these tests, which holds {}", path.display());
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Removes a world's pool with every volume in it, and the domains of that world.
pub fn remove_machines(pool: &str) -> Result<()> {
    // Others come and go meanwhile.
    for domain in host::domains()?.iter().filter(|name| name.starts_with("e2e-")) {
        let xml = host::defined(domain)?;
        // Not only the name: a machine of the user's may be called e2e-a too.
        if xml.contains("urn:nixvm:") && xml.contains(pool) {
            host::virsh_any(&["destroy", domain])?;
            host::virsh(&["undefine", domain, "--nvram"])?;
        }
    }
    for pool in pools()?.iter().filter(|name| name.starts_with(pool)) {
        host::virsh_any(&["pool-start", pool])?;
        for volume in host::volumes(pool)? {
            host::virsh(&["vol-delete", "--pool", pool, &volume])?;
        }
        host::virsh(&["pool-destroy", pool])?;
        host::virsh_any(&["pool-delete", pool])?;
        host::virsh(&["pool-undefine", pool])?;
    }
    Ok(())
}

fn pools() -> Result<Vec<String>> {
    let listed = host::virsh(&["pool-list", "--all", "--name"])?;
    Ok(listed.stdout.split_whitespace().map(str::to_owned).collect())
}

/// Removes what a run left behind that was killed; the lock shows that none is at work.
pub fn sweep() -> Result<()> {
    remove_machines(PREFIX)
        .context("cannot remove what an earlier run left in libvirt; is libvirtd running?")?;
    for entry in fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            restore_network(&path)?;
            remove_user(&path)?;
            remove_remote(&path)?;
            unmount(&path)?;
            root("rm", &["-rf".as_ref(), path.as_os_str()])?;
        }
    }
    Ok(())
}

/// Unmounts all that is mounted in a world's folder.
pub fn unmount(world: &Path) -> Result<()> {
    root("sh", &["-c".as_ref(), UNMOUNT.as_ref(), "sh".as_ref(), world.as_os_str()]).map(drop)
}

const UNMOUNT: &str =
    r#"while read -r _ point _; do case $point in "$1"/*) umount "$point";; esac; done < /proc/mounts"#;

/// The network that guests share. It is taken away only while no guest uses it, and put back as it was.
const NETWORK: &str = "default";

/// Takes libvirt's default network away until the end of the world; `false` where guests may be using it.
///
/// Of the tests of a world, each may do so: the network that comes back is the one that was there before the first.
pub fn without_network(world: &Path) -> Result<bool> {
    if !host::running_domains()?.is_empty() {
        return Ok(false);
    }
    let listed = |which: &[&str]| -> Result<bool> {
        let names = host::virsh(&[&["net-list", "--name"], which].concat())?;
        Ok(names.stdout.split_whitespace().any(|name| name == NETWORK))
    };
    let (defined, active, autostart) = (listed(&["--all"])?, listed(&[])?, listed(&["--autostart"])?);
    let saved = world.join("default-network");
    if !saved.exists() {
        fs::create_dir(&saved)?;
        let xml = if defined {
            host::virsh(&["net-dumpxml", "--inactive", NETWORK])?.stdout
        } else {
            String::new()
        };
        let flags =
            [(active, "active"), (autostart, "autostart")].map(|(set, flag)| if set { flag } else { "" });
        fs::write(saved.join("xml"), xml)?;
        fs::write(saved.join("flags"), flags.join(" "))?;
    }
    if active {
        host::virsh(&["net-destroy", NETWORK])?;
    }
    if defined {
        host::virsh(&["net-undefine", NETWORK])?;
    }
    Ok(true)
}

/// Puts the default network back that [`without_network`] took away.
pub fn restore_network(dir: &Path) -> Result<()> {
    let saved = dir.join("default-network");
    let (Ok(xml), Ok(flags)) =
        (fs::read_to_string(saved.join("xml")), fs::read_to_string(saved.join("flags")))
    else {
        return Ok(());
    };
    host::virsh_any(&["net-destroy", NETWORK])?;
    host::virsh_any(&["net-undefine", NETWORK])?;
    if !xml.is_empty() {
        host::define("net-define", &xml)?;
    }
    if flags.contains("active") {
        host::virsh(&["net-start", NETWORK])?;
    }
    if flags.contains("autostart") {
        host::virsh(&["net-autostart", NETWORK])?;
    }
    fs::remove_dir_all(saved)?;
    Ok(())
}

/// Removes the user whose home is in the world's folder, with every process of theirs.
pub fn remove_user(world: &Path) -> Result<()> {
    let known = host_any(&["getent", "passwd", USER])?;
    let home = world.join("home");
    if known.code != 0 || known.text().split(':').nth(5) != home.to_str() {
        return Ok(());
    }
    let gone = || {
        let running = host_any(&["ps", "-o", "pid=", "-u", USER])?;
        for pid in running.stdout.split_whitespace() {
            run(as_root("kill").args(["-9", pid]), b"", Duration::from_secs(10))?;
        }
        Ok(running.stdout.trim().is_empty().then_some(()))
    };
    wait_for(Duration::from_secs(20), gone)?.with_context(|| format!("{USER}'s processes do not end"))?;
    root("userdel", &[USER])?;
    root("rm", &["-rf".as_ref(), home.as_os_str()])?;
    Ok(())
}

/// The network namespace that is another computer, how its cable's ends begin, and its folder in the world's.
pub const REMOTE: &str = "nixvm-e2e";

/// Takes away the other computer of the world in that folder, and the ssh server that it used.
pub fn remove_remote(world: &Path) -> Result<()> {
    let Ok(pid) = fs::read_to_string(world.join(REMOTE).join("pid")) else { return remove_cable() };
    // After a crash of the host the number may be another process's.
    let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    if command.contains(&world.join(REMOTE).display().to_string()) {
        run(as_root("kill").arg(pid.trim()), b"", Duration::from_secs(10))?.ok()?;
    }
    remove_cable()
}

fn remove_cable() -> Result<()> {
    // The cable goes with the namespace that one of its ends is in.
    let known = host_any(&["ip", "netns", "list"])?;
    if known.stdout.lines().any(|line| line.split(' ').next() == Some(REMOTE)) {
        root("ip", &["netns", "delete", REMOTE])?;
    }
    Ok(())
}
