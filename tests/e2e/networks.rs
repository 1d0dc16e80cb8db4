//! Networks that do not work as they are: found by `doctor`, and changed by the commands that it names.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::Outcome;
use crate::host;
use crate::leftovers::without_network;
use crate::process::root;
use crate::world::World;

/// A machine that this test makes.
const D: &str = "e2e-n";

/// An address in the middle of the range that libvirt's network has by default.
const TAKEN: &str = "192.168.122.77/32";

/// A firewall as somebody may have it, in a table of its own.
const STRICT: &str = "nixvm-e2e-strict";

pub fn create_takes_addresses_that_nothing_has_and_doctor_mends_what_clashes(
    world: &mut World,
) -> Result<Outcome> {
    if !without_network(&world.dir)? {
        return Ok(Outcome::Skipped("guests are running that may use the network `default`".into()));
    }
    root("ip", &["address", "add", TAKEN, "dev", "lo"])?;
    world.at_the_end(|| root("ip", &["address", "del", TAKEN, "dev", "lo"]).map(drop));
    world.nixvm(&["create", D, "core", "1024", "2", "4G", "nat", "--from-agent"])?.ok()?;
    let made = host::virsh(&["net-dumpxml", "default"])?.stdout;
    ensure!(
        !made.contains("192.168.122.") && made.contains("<dhcp>"),
        "the network has a taken range: {made}"
    );
    ensure!(told(world)?.is_empty(), "doctor finds fault with the network that was just made");
    world.nixvm(&["purge", D, "--yes"])?.ok()?;

    host::virsh(&["net-destroy", "default"])?;
    host::virsh(&["net-undefine", "default"])?;
    let poor = "<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>\
        <ip address='192.168.122.1' netmask='255.255.255.0'/></network>";
    host::define("net-define", poor)?;
    let both = told(world)?;
    ensure!(both.len() == 2, "no DHCP, and an address of this host's: {both:?}");
    ensure!(both[1].0.contains("192.168.122.77"), "the address is not named: {both:?}");
    // What doctor says is what a person types.
    for (_, mend) in both {
        let command = mend.strip_prefix("with its machines off: ").unwrap_or(&mend);
        root("sh", &["-c", command])?;
    }
    let mended = host::virsh(&["net-dumpxml", "default"])?.stdout;
    ensure!(told(world)?.is_empty(), "doctor's commands did not fix the network: {mended}");
    ensure!(mended.contains("<dhcp>") && !mended.contains("192.168.122."), "the network is {mended}");
    a_firewall_that_drops_is_told_with_what_lets_guests_through(world)?;
    Ok(Outcome::Passed)
}

fn a_firewall_that_drops_is_told_with_what_lets_guests_through(world: &mut World) -> Result<()> {
    let (free, _) = firewall(world)?;
    ensure!(free.starts_with("lets "), "doctor finds fault with this host's firewall: {free}");
    root("iptables", &["-N", STRICT])?;
    root("iptables", &["-A", STRICT, "-p", "tcp", "--dport", "22", "-j", "RETURN"])?;
    root("iptables", &["-A", STRICT, "-j", "DROP"])?;
    // Before libvirt's own rules, as some firewalls put theirs.
    root("iptables", &["-I", "FORWARD", "-j", STRICT])?;
    world.at_the_end(|| {
        root("iptables", &["-D", "FORWARD", "-j", STRICT])?;
        root("iptables", &["-F", STRICT])?;
        root("iptables", &["-X", STRICT]).map(drop)
    });
    let (finding, mend) = firewall(world)?;
    ensure!(finding.starts_with("drops what the guests send"), "doctor does not see the firewall: {finding}");
    ensure!(mend.starts_with("sudo iptables -I FORWARD -i virbr"), "doctor says {mend}");
    root("sh", &["-c", &mend.replace("sudo ", "")])?;
    let undo = mend.replace("sudo ", "").replace("-I ", "-D ");
    world.at_the_end(move || root("sh", &["-c", &undo]).map(drop));
    let (finding, _) = firewall(world)?;
    ensure!(finding.starts_with("lets "), "what doctor said did not let guests through: {finding}");
    Ok(())
}

fn firewall(world: &World) -> Result<(String, String)> {
    let checks = checks(world)?;
    let check = checks.iter().find(|check| check["name"] == "firewall").context("firewall is not checked")?;
    Ok((text(check, "finding"), text(check, "mend")))
}

fn text(check: &Value, key: &str) -> String {
    check[key].as_str().unwrap_or_default().to_owned()
}

fn checks(world: &World) -> Result<Vec<Value>> {
    let said = world.nixvm(&["doctor", "--json"])?;
    serde_json::from_str(&said.stdout).with_context(|| said.to_string())
}

/// Returns what doctor finds wrong with the network, and what mends it.
fn told(world: &World) -> Result<Vec<(String, String)>> {
    let faulty = |check: &Value| check["name"] == "network" && check["health"] != "good";
    let checks = checks(world)?;
    Ok(checks.iter().filter(|check| faulty(check)).map(|c| (text(c, "finding"), text(c, "mend"))).collect())
}
