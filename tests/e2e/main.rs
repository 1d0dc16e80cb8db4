//! nixvm's end-to-end tests: the built program, Nix, libvirt, QEMU and a real guest.
//!
//!     cargo test --test e2e -- [--list] [FILTER...]
//!
//! They run one after another and share two machines, for a boot without KVM takes a
//! minute. A test that needs a machine asks the world for it; the first to ask
//! waits for the boot, so any test can also be run alone.

mod console;
mod create;
mod data;
mod faults;
mod host;
mod immutable;
mod leftovers;
mod life;
mod ports;
mod process;
mod secrets;
mod session;
mod sharing;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use world::World;

/// How a test ended that did not fail.
enum Outcome {
    Passed,
    /// This host cannot show it, for that reason.
    Skipped(String),
}

type Test = fn(&mut World) -> Result<Outcome>;

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((stringify!($name), $module::$name as Test)),*]
    };
}

/// In the order that needs the fewest boots.
const TESTS: &[(&str, Test)] = tests![
    faults::no_libvirt_no_nix_no_bridge_and_nothing_changes,
    faults::create_makes_the_default_network_where_it_is_missing,
    faults::a_pool_without_space_is_left_as_it_was,
    create::create_start_ssh,
    create::the_host_key_is_the_machines_own,
    create::what_is_declared_arrives_byte_for_byte,
    immutable::promise_1_nothing_of_the_system_can_be_written,
    ports::open_ports_answer_and_closed_ones_do_not,
    console::the_serial_console_is_interactive,
    data::data_survives_a_reboot,
    data::var_follows_its_disk_while_the_machine_runs,
    secrets::promise_3_no_secret_is_readable,
    sharing::promise_2_a_second_machine_costs_megabytes_and_seconds,
    life::promise_8_foreign_domains_are_left_alone,
    life::create_again_changes_nothing,
    life::stop_waits_until_the_machine_is_off,
    life::destroy_keeps_the_files_and_purge_does_not,
    console::root_can_log_in_only_with_the_declared_password,
    session::a_session_without_root,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own options for a harness (`--nocapture` and the like) change nothing here.
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen: Vec<_> = TESTS
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(*f)))
        .collect();
    if arguments.iter().any(|a| a == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        eprintln!("no test's name holds {filters:?}; `--list` shows them");
        return ExitCode::FAILURE;
    }
    match run(&chosen) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the tests could not begin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests and returns how many failed.
fn run(chosen: &[&(&str, Test)]) -> Result<usize> {
    process::listen_for_signals()?;
    let began = Instant::now();
    let mut world = World::new()?;
    println!("nixpkgs: {}\nworld:   {}\n", world.nixpkgs, world.dir.display());
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for (name, test) in chosen.iter().copied() {
        println!("test {name} ...");
        let test_began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| test(&mut world)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked, as said above")));
        let seconds = test_began.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)\n");
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("test {name} ... SKIPPED ({seconds:.1} s): {why}\n");
            }
            Err(error) => {
                failed.push(name);
                println!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}\n");
            }
        }
        if process::interrupted() {
            println!("interrupted; cleaning up");
            break;
        }
    }
    drop(world);
    for name in &failed {
        println!("failed: {name}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{passed} passed, {} failed, {skipped} skipped ({seconds:.0} s)", failed.len());
    let missing = chosen.len() - passed - skipped - failed.len();
    Ok(failed.len() + missing)
}
