//! What a machine may write is there after a reboot, and has room to grow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host::virsh;
use crate::process::wait_for;
use crate::world::{A, World};

pub fn data_survives_a_reboot(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let written = world.guest_root(
        A,
        r#"
set -e
head -c 100000 /dev/urandom > /var/lib/e2e
install -o admin -g admin -m 640 /var/lib/e2e /home/admin/e2e
install -m 600 /var/lib/e2e /root/e2e
echo gone > /tmp/e2e
logger -t e2e 'written before the reboot'
journalctl --sync || true
sha256sum < /var/lib/e2e
cat /proc/sys/kernel/random/boot_id"#,
    )?;
    let written = written.ok()?;
    let [digest, boot] = two_lines(&written.stdout)?;

    let rebooted = world.nixvm(&["reboot", A, "--wait"])?.ok()?;
    tell!("reboot: {:.1} s", rebooted.seconds);

    let now = world.guest_root(A, "sha256sum < /var/lib/e2e; cat /proc/sys/kernel/random/boot_id")?.ok()?;
    let [digest_now, boot_now] = two_lines(&now.stdout)?;
    ensure!(boot_now != boot, "the guest did not reboot: its boot ID is still {boot}");
    ensure!(digest_now == digest, "/var/lib/e2e was {digest} and is {digest_now}");
    let copies = world
        .guest_root(A, "sha256sum < /home/admin/e2e; sha256sum < /root/e2e; ls -l /home/admin/e2e /root/e2e")?
        .ok()?;
    ensure!(
        copies.stdout.lines().filter(|line| *line == digest).count() == 2,
        "/home or root's home lost data:\n{copies}"
    );
    let owner = world.admin(A, &["stat", "-c", "%U %a", "/home/admin/e2e"])?.ok()?;
    ensure!(owner.text() == "admin 640", "a file in /home is now {owner}");
    let tmp = world.admin(A, &["ls", "/tmp/e2e"])?;
    ensure!(tmp.code != 0, "/tmp kept a file over a reboot:\n{tmp}");
    let journal = world.guest_root(A, "journalctl --no-pager -o cat -b -1 -t e2e")?.ok()?;
    ensure!(journal.text() == "written before the reboot", "the previous boot's journal says\n{journal}");
    Ok(Outcome::Passed)
}

/// Twice, for the second time finds the service active that the first one started.
pub fn var_follows_its_disk_while_the_machine_runs(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let size = |world: &World| -> Result<u64> {
        let said = world.guest_root(A, "df --output=size -B1 /var | tail -n 1")?.ok()?;
        said.text().trim().parse().with_context(|| format!("df says {said}"))
    };
    let boot = world.guest_root(A, "cat /proc/sys/kernel/random/boot_id")?.ok()?.text().to_owned();
    for gib in [6, 10] {
        let before = size(world)?;
        let began = Instant::now();
        virsh(&["blockresize", A, "vdb", &format!("{gib}GiB")])?;
        // ext4 keeps some of the disk to itself.
        let grown = wait_for(Duration::from_secs(60), || {
            let now = size(world)?;
            Ok((now > (gib << 30) / 20 * 19).then_some(now))
        })?;
        let now =
            grown.with_context(|| format!("the disk has {gib} GiB, and /var {before} bytes as before"))?;
        tell!("{before} to {now} bytes in {:.1} s", began.elapsed().as_secs_f64());
    }
    let boot_now = world.guest_root(A, "cat /proc/sys/kernel/random/boot_id")?.ok()?;
    ensure!(boot_now.text() == boot, "the guest did reboot");
    Ok(Outcome::Passed)
}

fn two_lines(text: &str) -> Result<[String; 2]> {
    let lines: Vec<&str> = text.lines().collect();
    ensure!(
        lines.len() == 2 && lines.iter().all(|line| line.len() > 30),
        "a digest and a boot ID expected: {text:?}"
    );
    Ok([lines[0].to_owned(), lines[1].to_owned()])
}
