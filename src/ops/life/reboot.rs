//! `reboot`: a machine is shut down and started.

use std::time::Duration;

use crate::config;
use crate::disks::layers;
use crate::error::Result;
use crate::host::{Setup, Watch};
use crate::journal::Intent;
use crate::model::MachineName;
use crate::work::power::{Started, on_again, power_on};
use crate::work::shutdown::take_down;
use crate::work::{Plan, Work};

#[derive(PartialEq)]
enum Step {
    Stop,
    Start,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Stop => "shut the machine down".into(),
            Step::Start => "start the machine".into(),
        }
    }

    fn intent(&self) -> Option<Intent> {
        (*self == Step::Start).then_some(Intent::Restart)
    }
}

/// Restarts a machine; one that is off is started.
///
/// The machine is shut down and started, not reset, so that changes in its files (the root password, a host key) take effect.
///
/// # Errors
/// A fault that would keep the machine from starting is found before it is shut down.
pub fn reboot(setup: &Setup, name: &MachineName, limit: Duration, watch: &dyn Watch) -> Result<Started> {
    let work = Work::begin(setup, name, "reboot", watch)?;
    let domain = work.domain()?;
    layers::check_chain(&work.pool()?, &domain)?;
    config::load(&setup.workspace, name)?;
    let ran = work.is_to_run(&domain)?;
    let done = work.carry_out(&[Step::Stop, Step::Start], |step| match step {
        Step::Stop => take_down(&work, limit).map(drop),
        Step::Start => power_on(&work, &domain),
    });
    on_again(&work, ran, done)?;
    Ok(Started { machine: name.clone(), was_running: false })
}
