//! The steps that are left of an upgrade: a pure function of what libvirt knows.

use crate::model::record::BuildHealth;
use crate::work::Plan;
use crate::work::steps::Deploy;

#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// The generation to upgrade to.
    pub(super) target: u32,
    /// Its health, if the domain records it already.
    pub(super) recorded: Option<BuildHealth>,
    /// The generation of the definition.
    pub(super) current: u32,
    /// The generation that runs.
    pub(super) running: Option<u32>,
    /// Whether an earlier upgrade to it was interrupted.
    pub(super) tried: bool,
    /// Whether a running machine is restarted.
    pub(super) start: bool,
    /// Whether its health is judged then.
    pub(super) judge: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Deploy(Deploy),
    Look,
    Remember,
    Stop,
    PowerOn,
    Judge,
    Return,
    SwitchOff,
    PowerOnAgain,
    LookAgain,
}

/// What is done where the new generation is not healthy. The record goes first: from then on it is known what the
/// machine is to run, whatever dies.
pub(super) const BACK: [Step; 4] = [Step::Return, Step::SwitchOff, Step::PowerOnAgain, Step::LookAgain];

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Deploy(step) => return step.title(),
            Step::Look => "look at the machine as it runs",
            Step::Remember => "note that the machine runs",
            Step::Stop => "shut the machine down",
            Step::PowerOn => "start the new generation",
            Step::Judge => "wait until it comes up",
            Step::Return => "if it is unhealthy, define the domain on the old generation",
            Step::SwitchOff => "then switch the new one off",
            Step::PowerOnAgain => "start the old one",
            Step::LookAgain => "wait until that comes up",
        }
        .into()
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Deploy(step) => step.volumes(),
            _ => Vec::new(),
        }
    }
}

/// Returns what is left to do.
pub(super) fn plan(facts: Facts, boot: &str) -> Vec<Step> {
    let Facts { target, recorded, current, running, tried, start, judge } = facts;
    let went_back = tried && recorded == Some(BuildHealth::Unhealthy) && current != target;
    if went_back && running != Some(current) {
        return BACK[1..].to_vec();
    }
    let mut steps = Vec::new();
    if target != current {
        steps.extend([Deploy::Base, Deploy::Boot(boot.to_owned())].map(Step::Deploy));
    }
    let unfinished = tried && recorded != Some(BuildHealth::Healthy) && target == current;
    let swap = match running {
        Some(running) => running != target && start,
        // One that was up when it was upgraded is to be up again; one that was off is not started.
        None => unfinished && start,
    };
    // A guest that is down already was looked at by the upgrade that was interrupted.
    if swap && running.is_some() {
        steps.push(if judge { Step::Look } else { Step::Remember });
    }
    if target != current {
        steps.push(Step::Deploy(Deploy::Define));
    }
    if swap {
        steps.extend([Step::Stop, Step::PowerOn]);
    }
    if judge && (swap || unfinished && running == Some(target)) {
        steps.push(Step::Judge);
        steps.extend(BACK);
    }
    steps
}

/// Returns whether a step leaves the machine running the new generation.
pub(super) fn starts(step: &Step) -> bool {
    matches!(step, Step::PowerOn | Step::Judge)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generation 1 runs and is defined; 2 is wanted and new.
    const NEW: Facts = Facts {
        target: 2,
        recorded: None,
        current: 1,
        running: Some(1),
        tried: false,
        start: true,
        judge: true,
    };

    /// Generation 2 is defined and was being tried.
    const CUT: Facts =
        Facts { recorded: Some(BuildHealth::Untried), current: 2, running: None, tried: true, ..NEW };

    fn steps(facts: Facts) -> Vec<Step> {
        plan(facts, "web.boot-2.qcow2")
    }

    fn boot() -> Step {
        Step::Deploy(Deploy::Boot("web.boot-2.qcow2".into()))
    }

    #[test]
    fn a_machine_that_runs_is_looked_at_before_and_after() {
        let mut expected = vec![
            Step::Deploy(Deploy::Base),
            boot(),
            Step::Look,
            Step::Deploy(Deploy::Define),
            Step::Stop,
            Step::PowerOn,
            Step::Judge,
        ];
        expected.extend(BACK);
        assert_eq!(steps(NEW), expected);
    }

    #[test]
    fn nobody_looks_who_was_told_not_to() {
        let expected = [
            Step::Deploy(Deploy::Base),
            boot(),
            Step::Remember,
            Step::Deploy(Deploy::Define),
            Step::Stop,
            Step::PowerOn,
        ];
        assert_eq!(steps(Facts { judge: false, ..NEW }), expected);
        // Interrupted while the guest was down: it was up when it was upgraded, and is to be up again.
        assert_eq!(steps(Facts { judge: false, ..CUT }), [Step::Stop, Step::PowerOn]);
    }

    #[test]
    fn nothing_is_stopped_before_the_domain_is_defined() {
        for running in [None, Some(1)] {
            let steps = steps(Facts { running, ..NEW });
            let place = |wanted: &Step| steps.iter().position(|step| step == wanted);
            assert!(place(&Step::Deploy(Deploy::Define)).is_some());
            assert!(
                place(&Step::Stop).is_none_or(|stop| Some(stop) > place(&Step::Deploy(Deploy::Define))),
                "{steps:?}"
            );
        }
    }

    #[test]
    fn what_is_off_or_not_to_be_restarted_is_only_prepared() {
        for facts in [Facts { running: None, ..NEW }, Facts { start: false, ..NEW }] {
            assert_eq!(steps(facts), [Step::Deploy(Deploy::Base), boot(), Step::Deploy(Deploy::Define)]);
        }
        let prepared = Facts { recorded: Some(BuildHealth::Untried), current: 2, ..NEW };
        assert_eq!(steps(Facts { start: false, ..prepared }), []);
        assert_eq!(steps(Facts { running: None, ..prepared }), []);
        assert_eq!(steps(prepared)[..3], [Step::Look, Step::Stop, Step::PowerOn]);
    }

    #[test]
    fn what_is_up_to_date_is_left_alone() {
        for recorded in [BuildHealth::Untried, BuildHealth::Healthy, BuildHealth::Unhealthy] {
            let facts = Facts { recorded: Some(recorded), current: 2, running: Some(2), ..NEW };
            assert_eq!(steps(facts), [], "{recorded:?}");
        }
        assert_eq!(steps(Facts { recorded: Some(BuildHealth::Healthy), running: Some(2), ..CUT }), []);
    }

    #[test]
    fn an_upgrade_that_was_interrupted_goes_on_where_it_was() {
        // Before the guest was stopped, while it was down, while it came up.
        assert_eq!(steps(Facts { running: Some(1), ..CUT })[..3], [Step::Look, Step::Stop, Step::PowerOn]);
        assert_eq!(steps(CUT)[..3], [Step::Stop, Step::PowerOn, Step::Judge]);
        assert_eq!(steps(Facts { running: Some(2), ..CUT })[0], Step::Judge);
        // On its way back: the old one is defined; the new one still runs, or nothing does.
        let back = Facts { recorded: Some(BuildHealth::Unhealthy), current: 1, ..CUT };
        for running in [Some(2), None] {
            assert_eq!(steps(Facts { running, ..back }), BACK[1..]);
        }
        // Back: then it is another try.
        assert_eq!(steps(Facts { running: Some(1), ..back })[0], Step::Deploy(Deploy::Base));
    }
}
