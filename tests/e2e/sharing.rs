//! Promise 2: a further machine of a profile costs megabytes and seconds.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host::{self, against, mib};
use crate::process::host;
use crate::world::{A, B, World};

/// design: "Budgets".
const POOL_BUDGET: u64 = 2 << 20;
const STORE_BUDGET: u64 = 2 << 20;
const NIX_BUDGET: f64 = 5.0;
const BESIDE_NIX_BUDGET: f64 = 1.0;

pub fn promise_2_a_second_machine_costs_megabytes_and_seconds(world: &mut World) -> Result<Outcome> {
    let a = world.machine_a()?;
    let bases = || -> Result<Vec<String>> {
        Ok(host::volumes(&world.pool)?.into_iter().filter(|name| name.starts_with("nixvm-base-")).collect())
    };
    let bases_before = bases()?;

    world.nixvm(&["create", B, "core", "1024", "2", "4G", "nat", "--from-agent", "--no-build"])?.ok()?;
    let nix = world.nixvm(&["build", "--machine", B])?.ok()?;
    let again = world.nixvm(&["build", "--machine", B])?.ok()?;
    let create = world.nixvm(&["create", B])?.ok()?;
    ensure!(
        bases()? == bases_before,
        "the base image is not shared: {:?}, then {:?}",
        bases_before,
        bases()?
    );

    let store =
        closure(world, B)?.difference(&closure(world, A)?).map(|path| disk_use(path)).sum::<Result<u64>>()?;
    let boot = host::allocated(&host::volume(&world.pool, B, "boot")?)?;
    let data = host::allocated(&host::volume(&world.pool, B, "data")?)?;
    let identity = host::allocated(&host::volume(&world.pool, B, "identity")?)?;
    let beside = create.seconds - again.seconds;
    let start = world.nixvm(&["start", B, "--wait"])?.ok()?;
    world.adopt(B);

    tell!(
        "store   {:>10}   budget {} ({})",
        mib(store),
        mib(STORE_BUDGET),
        against(store as f64, STORE_BUDGET as f64)
    );
    tell!(
        "pool    {:>10}   budget {} ({}), beside {} of an empty data disk and {} of identity",
        mib(boot),
        mib(POOL_BUDGET),
        against(boot as f64, POOL_BUDGET as f64),
        mib(data),
        mib(identity)
    );
    tell!("Nix     {:>8.1} s   budget {NIX_BUDGET} s ({})", nix.seconds, against(nix.seconds, NIX_BUDGET));
    tell!(
        "beside  {:>8.1} s   budget {BESIDE_NIX_BUDGET} s ({})",
        beside,
        against(beside, BESIDE_NIX_BUDGET)
    );
    tell!("start   {:>8.1} s   until ssh answers", start.seconds);
    ensure!(store <= STORE_BUDGET, "a second machine costs {} in the store", mib(store));
    ensure!(boot <= POOL_BUDGET, "a second machine costs {} in the pool", mib(boot));

    // Two machines, and not one twice.
    let b = world.machine_b()?;
    ensure!(a.address != b.address, "both machines have the address {}", a.address);
    for file in ["/etc/machine-id", "/proc/sys/kernel/hostname", "/etc/nixvm-release"] {
        let [in_a, in_b] = [A, B].map(|name| world.admin(name, &["cat", file]));
        let (in_a, in_b) = (in_a?.ok()?.stdout, in_b?.ok()?.stdout);
        ensure!(in_a != in_b && !in_b.is_empty(), "{file} is the same in both: {in_b}");
    }
    for file in ["ssh_host_ed25519_key.pub", "machine-id", "mac-address"] {
        ensure!(world.file(A, file)? != world.file(B, file)?, "{file} is the same for both");
    }
    Ok(Outcome::Passed)
}

/// What two hosts build from the same files is the same, byte for byte: Nix builds it again and compares.
pub fn an_image_built_twice_is_the_same(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    for image in ["disk.qcow2", "base.qcow2"] {
        let file = std::fs::canonicalize(world.workspace.join(format!("output/build/vm-{A}")).join(image))?;
        let file = file.display().to_string();
        // /nix/store/HASH-NAME/base.qcow2, or /nix/store/HASH-NAME itself.
        let path = file.split('/').take(4).collect::<Vec<_>>().join("/");
        let nix = ["nix", "--extra-experimental-features", "nix-command"];
        let deriver = host(&[&nix[..], &["path-info", "--json", &path]].concat())?;
        let deriver: serde_json::Value = serde_json::from_str(&deriver.stdout)?;
        let deriver = deriver[&path]["deriver"].as_str().with_context(|| format!("no deriver of {path}"))?;
        let built =
            host(&[&nix[..], &["build", "--rebuild", "--no-link", &format!("{deriver}^*")]].concat())?;
        tell!("{image}, again: {:.1} s", built.seconds);
    }
    Ok(Outcome::Passed)
}

/// Returns the store paths that a machine's out link keeps from the garbage collector.
fn closure(world: &World, machine: &str) -> Result<BTreeSet<String>> {
    let link = world.workspace.join(format!("output/build/vm-{machine}"));
    ensure!(Path::new(&link).exists(), "{} does not lead into the store", link.display());
    let nix = ["nix", "--extra-experimental-features", "nix-command", "path-info", "--recursive"];
    let listed = host(&[nix.as_slice(), &[&*link.to_string_lossy()]].concat())?;
    let paths: BTreeSet<String> = listed.stdout.lines().map(str::to_owned).collect();
    ensure!(!paths.is_empty(), "Nix knows no path of {machine}");
    Ok(paths)
}

fn disk_use(path: &str) -> Result<u64> {
    let said = host(&["du", "-s", "-B1", path])?;
    Ok(said.stdout.split_whitespace().next().unwrap_or_default().parse()?)
}
