//! Snapshots of a real guest: taken while it runs, gone back to, deleted, and every one exactly what it was.

use anyhow::{Context, Result, bail, ensure};

use crate::aa_helper;
use crate::harness::{Outcome, tell};
use crate::host::{self, against};
use crate::process::{host as run_here, root};
use crate::world::World;

/// A machine of this test's own: what it holds changes.
const S: &str = "e2e-p";

/// Seconds. issue: "no pause over 1 s".
const PAUSE_BUDGET: f64 = 1.0;

pub fn snapshots_keep_and_bring_back_exactly_what_was(world: &mut World) -> Result<Outcome> {
    let made = [S, "core", "1024", "2", "512M", "nat", "--from-agent"];
    world.nixvm(&[&["create"], &made[..]].concat())?.ok()?;
    // Off, and never started: there are no firmware variables yet.
    world.nixvm(&["snapshot", S, "unborn"])?.ok()?;
    let unborn = digest(world, "unborn")?;
    world.nixvm(&["start", S, "--wait"])?.ok()?;

    write(world, "one")?;
    pause(world)?;
    let first = digest(world, "first")?;
    // As an older nixvm defined it: the next command brings the definition over, and nothing of what runs changes.
    host::define("define", &on_volumes(world)?)?;
    write(world, "two")?;
    let taken = world.nixvm(&["snapshot", S, "second", "--json"])?.ok()?;
    let brought = host::defined(S)?;
    ensure!(
        taken.stderr.contains("names its disks as files") && !brought.contains("type='volume'"),
        "{taken}\n{brought}"
    );
    ensure!(json(&taken.stdout)?["consistent"] == true, "the guest's agent was not asked:\n{taken}");
    let second = digest(world, "second")?;
    write(world, "three")?;
    world.nixvm(&["snapshot", S, "second"])?.refused(1, &["second"])?;
    world.nixvm(&["restore-snapshot", S, "first"])?.refused(2, &["--yes"])?;
    world.nixvm(&["restore-snapshot", S, "frist", "--yes"])?.refused(1, &["first"])?;

    restore(world, "first", "one")?;
    ensure!(digest(world, "second")? == second, "restoring the first snapshot changed the second");
    restore(world, "second", "two")?;
    for (name, was) in [("unborn", &unborn), ("first", &first), ("second", &second)] {
        ensure!(digest(world, name)? == *was, "restoring changed the snapshot {name}");
    }

    // In the middle and live: `before-first` lies on the layer of `second`, and so does what runs.
    write(world, "four")?;
    world.nixvm(&["snapshot", S, "third"])?.ok()?;
    let third = digest(world, "third")?;
    apparmor_lets_qemu_at_all_files()?;
    let deleted = world.nixvm(&["delete-snapshot", S, "second", "--yes", "--json"])?.ok()?;
    ensure!(json(&deleted.stdout)?["link"].is_string(), "a layer with two on it cannot go:\n{deleted}");
    let deleted = world.nixvm(&["delete-snapshot", S, "before-first", "--yes", "--json"])?.ok()?;
    tell!("deleted live in {:.1} s", deleted.seconds);
    for (name, was) in [("unborn", &unborn), ("first", &first), ("third", &third)] {
        ensure!(digest(world, name)? == *was, "deleting live changed the snapshot {name}");
    }
    ensure!(read(world)? == "four", "the guest sees {:?} after a live deletion", read(world)?);

    // Off.
    world.nixvm(&["stop", S])?.ok()?;
    let now = image_digest(world, &host::volume_path(&world.pool, &current(world)?)?)?;
    let deleted = world.nixvm(&["delete-snapshot", S, "third", "--yes"])?.ok()?;
    tell!("deleted off in {:.1} s", deleted.seconds);
    ensure!(host::state(S)? == "shut off", "a deletion left the machine {}", host::state(S)?);
    ensure!(image_digest(world, &host::volume_path(&world.pool, &current(world)?)?)? == now, "data was lost");
    for (name, was) in [("unborn", &unborn), ("first", &first)] {
        ensure!(digest(world, name)? == *was, "deleting while off changed the snapshot {name}");
    }
    broken_chain(world)?;
    world.nixvm(&["destroy", S, "--yes"])?.ok()?;
    let left = host::volumes_of(&world.pool, S)?;
    ensure!(left.is_empty(), "`destroy` left {left:?}");
    Ok(Outcome::Passed)
}

/// Returns the machine's definition as an older nixvm and libvirt left it: disks are volumes, but for the one that a
/// snapshot of the running machine has put on a file.
fn on_volumes(world: &World) -> Result<String> {
    let boot = host::volume_path(&world.pool, &format!("{S}.boot-1.qcow2"))?;
    let folder = boot.rsplit_once('/').context("a volume's path has no folder")?.0;
    let old = host::defined(S)?.split_inclusive("</disk>").fold(String::new(), |xml, disk| {
        let source = format!("<source pool='{}' volume='", world.pool);
        let on_volume = disk
            .replace("<disk type='file'", "<disk type='volume'")
            .replace(&format!("<source file='{folder}/"), &source);
        xml + if disk.contains("<serial>nixvm-data</serial>") { disk } else { &on_volume }
    });
    ensure!(old.matches("<source pool=").count() == 2, "{old}");
    Ok(old)
}

/// Asks libvirt's own program what a profile would let QEMU do that is made from the definition, as for a start.
fn apparmor_lets_qemu_at_all_files() -> Result<()> {
    let Some(program) = aa_helper::program() else { return Ok(()) };
    let runs = host::virsh(&["dumpxml", "--security-info", S])?.stdout;
    let next = aa_helper::Profile::of(&program, &host::defined(S)?).map_err(anyhow::Error::msg)?;
    let now = aa_helper::Profile::of(&program, &runs).map_err(anyhow::Error::msg)?;
    // What libvirt found below each disk when the machine was started.
    let files: Vec<&str> =
        runs.split("<source file='").skip(1).filter_map(|rest| rest.split('\'').next()).collect();
    ensure!(files.len() >= 6, "three disks, a base and two layers expected: {files:?}");
    for file in files {
        ensure!(now.lets(file, "r") && next.lets(file, "r"), "{file} is missing: {now:?}, {next:?}");
    }
    Ok(())
}

/// A layer that is missing is told before QEMU is asked.
fn broken_chain(world: &World) -> Result<()> {
    let lost = layer(world, "first")?;
    let [path, away] = [lost.clone(), format!("{lost}.away")];
    root("mv", &[&path, &away])?;
    world.nixvm(&["start", S])?.refused(1, &["not whole", "is missing"])?;
    world.nixvm(&["snapshot", S])?.refused(1, &["not whole", "is missing"])?;
    let status = world.nixvm(&["status", S])?.ok()?;
    ensure!(status.stdout.contains("NOT WHOLE"), "`status` does not tell:\n{status}");
    root("mv", &[&away, &path]).map(drop)
}

/// Takes the snapshot `first` while a writer in the guest stamps the time every 10 ms, and shows its longest gap.
fn pause(world: &World) -> Result<()> {
    let writer = r#"
cat > /var/stamp.sh <<'END'
end=$((SECONDS + 25))
exec {never}<> <(:)
while [ $SECONDS -lt $end ]; do echo $EPOCHREALTIME; read -t 0.01 -u $never; done > /var/stamps
END
systemd-run --quiet --unit stamps bash /var/stamp.sh"#;
    world.guest_root(S, writer)?.ok()?;
    std::thread::sleep(std::time::Duration::from_secs(5));
    let before = world.admin(S, &["date", "+%s.%N"])?.ok()?.text().to_owned();
    let taken = world.nixvm(&["snapshot", S, "first", "--json"])?.ok()?;
    let switched = json(&taken.stdout)?["seconds"].as_f64().context("no seconds")?;
    let gap = format!("from={before}\n")
        + r#"
while systemctl is-active --quiet stamps; do sleep 1; done
awk -v from=$from 'l { d = $1 - l; if (l < from) { if (d > b) b = d } else if (d > g) g = d } { l = $1 }
END { printf "%d %.3f %.3f\n", NR, b, g }' /var/stamps"#;
    let said = world.guest_root(S, &gap)?.ok()?;
    let said: Vec<f64> = said.text().split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [stamps, idle, gap] = said[..] else { bail!("no gap in {said:?}") };
    tell!(
        "snapshot {:.2} s in all, {switched:.2} s for the switch; longest gap of {stamps} stamps {:.0} ms, {:.0} ms before it; budget {:.0} ms ({})",
        taken.seconds,
        gap * 1000.0,
        idle * 1000.0,
        PAUSE_BUDGET * 1000.0,
        against(gap, PAUSE_BUDGET)
    );
    Ok(())
}

fn restore(world: &World, snapshot: &str, text: &str) -> Result<()> {
    let restored = world.nixvm(&["restore-snapshot", S, snapshot, "--yes", "--json"])?.ok()?;
    ensure!(json(&restored.stdout)?["before"] == format!("before-{snapshot}"), "{restored}");
    world.nixvm(&["start", S, "--wait"])?.ok()?;
    let status = world.nixvm(&["status", S])?.ok()?;
    ensure!(read(world)? == text, "after restoring {snapshot} the guest sees {:?}\n{status}", read(world)?);
    tell!("restored {snapshot} in {:.1} s, shutdown and start included", restored.seconds);
    Ok(())
}

fn write(world: &World, text: &str) -> Result<()> {
    world.guest_root(S, &format!("echo {text} > /var/lib/e2e && sync")).and_then(|said| said.ok()).map(drop)
}

fn read(world: &World) -> Result<String> {
    Ok(world.admin(S, &["cat", "/var/lib/e2e"])?.ok()?.text().to_owned())
}

/// Returns the SHA-256 of the whole disk that a snapshot shows.
fn digest(world: &World, snapshot: &str) -> Result<String> {
    image_digest(world, &layer(world, snapshot)?)
}

fn image_digest(world: &World, path: &str) -> Result<String> {
    let raw = world.dir.join("digest.raw").display().to_string();
    root("qemu-img", &["convert", "-U", "-f", "qcow2", "-O", "raw", path, &raw])?;
    let digest = host::sha256(std::slice::from_ref(&raw))?;
    root("rm", &["-f", &raw])?;
    Ok(digest)
}

/// Returns the path of the layer that a snapshot froze.
fn layer(world: &World, snapshot: &str) -> Result<String> {
    let listed = json(&world.nixvm(&["snapshots", S, "--json"])?.ok()?.stdout)?;
    let all = listed["snapshots"].as_array().context("no list")?;
    let found =
        all.iter().find(|listed| listed["name"] == snapshot).and_then(|found| found["volume"].as_str());
    host::volume_path(&world.pool, found.with_context(|| format!("no snapshot {snapshot} in {listed}"))?)
}

/// Returns the name of the volume that the machine's data disk is defined on.
fn current(_: &World) -> Result<String> {
    let listed =
        run_here(&["virsh", "--quiet", "--connect", "qemu:///system", "domblklist", "--inactive", S])?;
    let line = listed.stdout.lines().find(|line| line.contains("vdb")).context("no vdb")?;
    let source = line.split_whitespace().last().unwrap_or_default();
    Ok(source.rsplit('/').next().unwrap_or_default().to_owned())
}

fn json(text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}
