//! A writer in a guest that stamps the time every 10 ms: the longest gap between two stamps is what the guest notices.

use anyhow::{Context, Result, ensure};

use crate::world::World;

/// What a guest's writer may have to wait during a backup, in milliseconds.
pub const PAUSE: f64 = 100.0;

/// Stamps the time until it is told to stop.
const WRITER: &str = r#"
cat > /var/stamp.sh <<'END'
exec {never}<> <(:)
while [ ! -e /run/stop ]; do echo $EPOCHREALTIME; read -t 0.01 -u $never; done > /var/lib/stamps
END
rm -f /run/stop
systemd-run --quiet --collect bash /var/stamp.sh
sleep 3"#;

/// Prints how many stamps there are and the longest gap between two, in milliseconds.
const GAPS: &str = r#"
touch /run/stop
sleep 1
awk '{ if (last && $1 - last > gap) gap = $1 - last; last = $1 } END { printf "%d %.1f\n", NR, gap * 1000 }' /var/lib/stamps
"#;

/// Returns the longest gap while `act` acts, in milliseconds, and what it returns.
pub fn longest_gap<T>(world: &World, machine: &str, act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    world.guest_root(machine, WRITER)?.ok()?;
    let acted = act()?;
    let said = world.guest_root(machine, GAPS)?.ok()?;
    let (count, gap) = said.text().split_once(' ').with_context(|| format!("no stamps: {said}"))?;
    ensure!(count.parse::<u32>()? > 20, "the writer did not write: {said}");
    Ok((gap.parse()?, acted))
}
