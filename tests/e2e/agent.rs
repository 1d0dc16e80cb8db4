//! The trials of single parts that need a guest with an agent (`src/hypervisor/trials/guest.rs`), on one that there is.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::run;
use crate::world::{A, World};

pub fn a_guest_stands_still_for_a_moment_and_thaws_itself(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let mut trials = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    trials.args(["test", "--locked", "--lib", "--", "--ignored", "trials::guest", "--test-threads=1"]);
    trials
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("NIXVM_TRIAL_MACHINE", A)
        .env("NIXVM_POOL", &world.pool);
    let done = run(&mut trials, b"", Duration::from_secs(900))?.ok()?;
    ensure!(done.stdout.contains("2 passed; 0 failed"), "not both of the trials ran:\n{done}");
    tell!("2 trials: {:.1} s", done.seconds);

    let frozen = || -> Result<Value> {
        let status = world.nixvm(&["status", A, "--json"])?.ok()?;
        Ok(serde_json::from_str::<Value>(&status.stdout)?["frozen"].clone())
    };
    ensure!(frozen()? == false, "`status` says that a guest which runs is frozen");
    host::virsh(&["domfsfreeze", A])?;
    let said = (frozen(), world.nixvm(&["status", A]));
    host::virsh(&["domfsthaw", A])?;
    ensure!(said.0? == true, "`status` does not say that the guest is frozen");
    ensure!(said.1?.stdout.contains(&format!("virsh domfsthaw {A}")), "`status` names no way out");
    ensure!(frozen()? == false, "`status` says that a guest which was thawed is frozen");
    Ok(Outcome::Passed)
}
