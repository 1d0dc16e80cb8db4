//! What is left when nixvm dies: killed at every step boundary of every command that changes more than one thing, and in the
//! middle of every step that takes long.
//!
//! For each command and for N = 0, 1, 2, …: the machine is brought to where the command begins, nixvm is
//! killed by SIGKILL when N of its steps are done, and then the data must be there, `status` must tell what happened,
//! and the same command must complete. N goes up until a run is not killed any more, so no boundary is left out. The middle of
//! a step is seen from outside, by a file that grows; a command that ends before that fails the test.
//!
//! The machines are off, or run without being waited for, and their data is read from outside: a boot would add a minute to
//! each point and show nothing more.

mod backups;
mod causes;
mod copies;
mod data;
mod deletion;
mod generations;
mod kill;
mod making;
mod middle;
mod outside;
mod running;
mod saved;
mod settings;
mod snapshots;

use crate::harness::{Group, tests};
use crate::world::World;

/// They take from the host what every guest needs.
pub const ALONE: Group = tests![
    outside::a_network_that_is_down_is_started_with_the_machine,
    outside::a_libvirt_that_is_restarted_in_the_middle_loses_nothing,
];

/// All of them make and remove a machine of one name.
pub const ONE_AFTER_ANOTHER: Group = tests![
    World::on_a_disk_of_its_own;
    making::create_killed_anywhere_is_completed_by_create,
    making::create_killed_in_the_middle_of_a_step_is_completed_by_create,
    generations::promise_6_an_upgrade_killed_anywhere_is_completed_by_upgrade,
    generations::apply_killed_anywhere_is_completed_by_apply,
    generations::upgrade_killed_in_the_middle_of_a_step_is_completed_by_upgrade,
    running::upgrade_of_a_running_machine_killed_anywhere_is_completed_by_upgrade,
    running::upgrade_killed_while_the_guest_comes_up_is_judged_by_the_next,
    running::an_upgrade_that_is_taken_back_killed_anywhere_is_taken_back_by_upgrade,
    running::rollback_of_a_running_machine_killed_anywhere_is_completed_by_rollback,
    running::reboot_killed_anywhere_is_completed_by_reboot,
    running::recreate_of_a_running_machine_killed_anywhere_is_completed_by_recreate,
    running::a_machine_that_ran_runs_on_whoever_ends_the_command,
    running::a_guest_that_was_told_to_shut_down_runs_on_whoever_ends_the_command,
    generations::rollback_killed_anywhere_is_completed_by_rollback,
    generations::old_generations_killed_anywhere_are_removed_by_the_same,
    settings::set_killed_anywhere_is_completed_by_set,
    settings::a_command_of_one_step_that_is_hindered_loses_nothing,
    deletion::destroy_killed_anywhere_is_completed_by_destroy,
    deletion::purge_killed_anywhere_is_completed_by_purge,
    deletion::nothing_is_left_in_output_of_a_machine_that_is_no_more,
    backups::backup_killed_anywhere_leaves_no_half_archive,
    backups::export_killed_anywhere_leaves_no_half_folder,
    backups::incremental_backup_killed_anywhere_leaves_one_checkpoint,
    backups::restore_backup_killed_anywhere_loses_neither_data,
    backups::restore_backup_over_a_running_machine_killed_anywhere_loses_neither_data,
    backups::restore_backup_killed_anywhere_makes_the_machine_again,
    backups::backup_killed_in_the_middle_of_a_step_leaves_no_half_archive,
    backups::a_machine_that_is_started_under_a_backup_is_no_archive,
    backups::restore_backup_killed_in_the_middle_of_the_upload_loses_neither_data,
    copies::recreate_killed_anywhere_is_completed_by_recreate,
    copies::recreate_killed_in_the_middle_of_a_step_is_completed_by_recreate,
    copies::clone_killed_anywhere_is_completed_by_clone,
    copies::clone_killed_in_the_middle_of_the_copy_is_completed_by_clone,
    copies::clone_of_a_running_machine_killed_anywhere_is_completed_by_clone,
    copies::rename_killed_anywhere_is_completed_by_rename,
    backups::an_incremental_backup_after_a_restored_snapshot_is_a_full_one,
    outside::a_build_that_fails_changes_nothing,
    outside::what_a_power_cut_took_is_made_again_or_told,
    outside::a_full_pool_refuses_what_needs_room_and_nothing_is_lost,
    snapshots::snapshot_killed_anywhere_loses_nothing,
    snapshots::restore_snapshot_killed_anywhere_loses_nothing,
    snapshots::restore_snapshot_that_discards_killed_anywhere_restores,
    snapshots::restore_snapshot_killed_in_the_middle_of_the_shutdown_is_completed,
    snapshots::delete_snapshot_killed_anywhere_loses_nothing,
    snapshots::delete_snapshot_killed_in_the_middle_of_a_merge_loses_nothing,
    snapshots::a_merge_that_died_with_its_host_is_undone,
];
