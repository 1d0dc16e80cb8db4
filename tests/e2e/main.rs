//! nixvm's end-to-end tests: the built program, Nix, libvirt, QEMU and a real guest.
//!
//!     cargo test --test e2e -- [--list] [FILTER...]
//!
//! A boot without KVM takes half a minute, so tests share machines where they can: those of a group run one after another in
//! one world. A test that needs a machine asks the world for it; the first to ask waits for the boot, so any test can also
//! be run alone. An emulated guest uses one processor: `--test-threads=2` runs two groups beside each other.
//!
//! What is left when nixvm is killed is in `tests/faults`: `-- faults` chooses those.

mod agent;
mod backups;
mod carried;
mod console;
mod copies;
mod create;
mod data;
mod export;
mod harness;
mod host;
mod immutable;
mod lacks;
mod leftovers;
mod life;
mod moved;
mod networks;
mod ports;
mod process;
mod reach;
mod refused;
mod remote;
mod secrets;
mod session;
mod settings;
mod sharing;
mod snapshots;
mod upgrade;
mod web;
mod world;
mod writer;

#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the trials use more of it; in a test, a panic is the report"
)]
#[path = "../../src/hypervisor/trials/aa_helper.rs"]
mod aa_helper;
#[path = "../faults/mod.rs"]
mod faults;

use std::process::ExitCode;

use harness::{Group, tests};

/// They take libvirt's default network away, which other guests would notice.
const LACKS: Group = tests![
    lacks::promise_10_every_failure_says_what_and_why_and_nothing_changes,
    lacks::create_makes_the_default_network_where_it_is_missing,
    networks::create_takes_addresses_that_nothing_has_and_doctor_mends_what_clashes,
    lacks::a_pool_without_space_is_left_as_it_was,
];

/// The longest first, and in each the order that needs the fewest boots.
const BESIDE_EACH_OTHER: &[Group] = &[
    faults::ONE_AFTER_ANOTHER,
    tests![
        upgrade::promise_4_an_upgrade_costs_one_reboot_and_a_failed_build_nothing,
        upgrade::the_same_system_restarts_nobody_and_diff_says_what_changed,
        upgrade::promise_5_what_does_not_come_up_healthy_is_taken_back,
        upgrade::what_fails_unseen_is_named_and_a_rollback_is_measured_by_itself,
        upgrade::a_rollback_takes_a_second_beside_the_boot,
        upgrade::clean_frees_what_nothing_needs_and_says_so_first,
    ],
    tests![
        create::create_start_ssh,
        create::the_host_key_is_the_machines_own,
        create::what_is_declared_arrives_byte_for_byte,
        immutable::promise_1_nothing_of_the_system_can_be_written,
        ports::open_ports_answer_and_closed_ones_do_not,
        reach::ssh_works_whatever_ssh_is_configured_for,
        reach::the_machines_own_key_is_offered_first,
        reach::an_agent_that_hangs_holds_up_nobody,
        reach::the_clock_is_right_after_a_pause,
        console::the_serial_console_is_interactive,
        agent::a_guest_stands_still_for_a_moment_and_thaws_itself,
        data::data_survives_a_reboot,
        export::an_export_of_a_running_machine_boots_by_plain_qemu,
        data::var_follows_its_disk_while_the_machine_runs,
        secrets::promise_3_no_secret_is_readable,
        sharing::promise_2_a_second_machine_costs_megabytes_and_seconds,
        sharing::an_image_built_twice_is_the_same,
        reach::a_static_address_goes_before_an_old_lease,
        life::promise_8_foreign_domains_are_left_alone,
        life::create_again_changes_nothing,
        life::stop_waits_until_the_machine_is_off,
        life::destroy_keeps_the_files_and_purge_does_not,
        console::root_can_log_in_only_with_the_declared_password,
    ],
    tests![remote::promise_9_a_remote_host_by_ssh_alone],
    tests![backups::promise_7_a_backup_of_a_running_machine_restores_anywhere],
    tests![
        carried::kept_folders_are_where_they_are_wanted,
        carried::a_key_in_a_home_counts_for_services_alone,
        carried::freed_blocks_go_back_to_the_pool,
        carried::an_identity_volume_that_comes_late_is_read,
    ],
    tests![snapshots::snapshots_keep_and_bring_back_exactly_what_was],
    tests![copies::a_machine_is_renamed_cloned_and_recreated],
    tests![settings::what_a_machine_is_set_to_is_in_force_when_the_output_says],
    tests![
        moved::what_a_killed_create_left_stays_with_whoever_made_a_machine_of_it,
        moved::a_workspace_anywhere_is_moved_while_its_machine_runs,
    ],
    tests![web::a_machine_of_the_templates_profile_serves_its_page],
    tests![refused::promise_14_what_a_guest_cannot_carry_out_is_refused_by_name],
    tests![session::a_session_without_root],
];

fn main() -> ExitCode {
    harness::main(&[LACKS, faults::ALONE], BESIDE_EACH_OTHER)
}
