//! What an operator asks of a rollout: the record that follows, or a refusal.

use jiff::Timestamp;
use wanwright_schemas::ids::Actor;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::rollout::{
    Counts, ROLLOUT_VERSION, Rollout, RolloutRequest, RolloutState, RolloutVerb, Summary, Waves, WhenHeld,
};
use wanwright_vendors::Vendor;

use crate::holds::reason;
use crate::templates;

/// The usual waves: a twentieth, a quarter, everybody.
const STEPS: [u8; 3] = [5, 25, 100];
/// Most waves but the canaries'.
const MOST_STEPS: usize = 20;
/// Most canaries: with them a question is still one that the door takes.
const MOST_CANARIES: usize = 40;
/// How many customers are usually being changed at once.
const AT_ONCE: u32 = 20;
/// Most of them.
const MOST_AT_ONCE: u32 = 1000;
/// Longest pause after a wave: a week.
const LONGEST_PAUSE: u32 = 7 * 24 * 60 * 60;
/// How many stacks are usually planned for.
const SAMPLE: u32 = 20;

/// What the vendor's record becomes.
///
/// # Errors
/// The refusal, which names the field.
pub fn judge(
    present: Option<&Rollout>,
    verb: RolloutVerb,
    request: &RolloutRequest,
    vendor: &Vendor,
    actor: &Actor,
    now: Timestamp,
) -> Result<Rollout, Refusal> {
    let state = |rollout: &Rollout, state, why| Rollout { state, why, time: now, ..rollout.clone() };
    match verb {
        RolloutVerb::Plan => {
            free(present)?;
            let new = begin(present, request, vendor, actor, now)?;
            let summary = Summary { sample: request.sample.unwrap_or(SAMPLE), ..Summary::default() };
            // How it would go about it is said when it is started.
            let waves = Waves { steps: Vec::new(), ..new.waves.clone() };
            Ok(Rollout { state: RolloutState::Planning, summary: Some(summary), waves, ..new })
        }
        RolloutVerb::Start => {
            free(present)?;
            let planned = present.filter(|rollout| {
                rollout.state == RolloutState::Planned
                    && request.to.is_none_or(|to| to == rollout.to)
                    && request.from.is_none_or(|from| from == rollout.from)
            });
            let Some(planned) = planned else { return begin(present, request, vendor, actor, now) };
            let said = RolloutRequest { to: Some(planned.to), from: Some(planned.from), ..request.clone() };
            let new = begin(present, &said, vendor, actor, now)?;
            // What was planned is what is started.
            if new.digest != planned.digest {
                let message =
                    format!("version {} of the template is not the one that was planned", planned.to);
                return Err(Refusal::new(Reason::TemplateChanged, message).field("to"));
            }
            Ok(Rollout { number: planned.number, summary: planned.summary.clone(), ..new })
        }
        RolloutVerb::Status => existing(present, &[], "").cloned(),
        RolloutVerb::Pause => {
            let why = format!("{actor}: {}", reason(&request.reason)?);
            let running = existing(present, &[RolloutState::Running], "paused")?;
            Ok(state(running, RolloutState::Paused, Some(why)))
        }
        RolloutVerb::Resume => {
            let rests = existing(present, &[RolloutState::Paused, RolloutState::Stopped], "resumed")?;
            unplanned(rests)?;
            let waves = limits(rests.waves.clone(), request)?;
            Ok(Rollout { waves, ..state(rests, RolloutState::Running, None) })
        }
        RolloutVerb::Stop => {
            let why = format!("{actor}: {}", reason(&request.reason)?);
            let all =
                [RolloutState::Planning, RolloutState::Planned, RolloutState::Running, RolloutState::Paused];
            Ok(state(existing(present, &all, "stopped")?, RolloutState::Stopped, Some(why)))
        }
        RolloutVerb::Rollback => {
            let all =
                [RolloutState::Running, RolloutState::Paused, RolloutState::Stopped, RolloutState::Done];
            let rollout = existing(present, &all, "rolled back")?;
            unplanned(rollout)?;
            back(rollout, vendor, actor, now)
        }
    }
}

/// Refuses to begin while another one is under way.
fn free(present: Option<&Rollout>) -> Result<(), Refusal> {
    match present.filter(|rollout| rollout.state.is_under_way()) {
        Some(Rollout { number, vendor, state, to, .. }) => {
            let message = format!("rollout {number} of {vendor} to version {to} is {}", state.as_str());
            Err(Refusal::new(Reason::RolloutUnderWay, message))
        }
        None => Ok(()),
    }
}

/// The record, which must be there in one of these states; in any, where none is named.
fn existing<'a>(
    present: Option<&'a Rollout>,
    states: &[RolloutState],
    done: &str,
) -> Result<&'a Rollout, Refusal> {
    let Some(rollout) = present else {
        return Err(Refusal::new(Reason::NoSuchRollout, "the vendor never had a rollout"));
    };
    if states.is_empty() || states.contains(&rollout.state) {
        return Ok(rollout);
    }
    let message = format!("rollout {} is {} and cannot be {done}", rollout.number, rollout.state.as_str());
    Err(Refusal::new(Reason::NoSuchRollout, message))
}

/// Refuses to go on with what was never started.
fn unplanned(rollout: &Rollout) -> Result<(), Refusal> {
    if rollout.waves.steps.is_empty() {
        let message = format!("rollout {} was planned and never started", rollout.number);
        return Err(Refusal::new(Reason::NoSuchRollout, message));
    }
    Ok(())
}

fn begin(
    present: Option<&Rollout>,
    request: &RolloutRequest,
    vendor: &Vendor,
    actor: &Actor,
    now: Timestamp,
) -> Result<Rollout, Refusal> {
    let missing = || Refusal::new(Reason::MissingField, "`to` is missing: the version to get").field("to");
    let to = request.to.ok_or_else(missing)?;
    let from = request.from.unwrap_or(vendor.default_template);
    let template = templates::of_vendor(vendor, to).map_err(|refusal| refusal.field("to"))?;
    templates::of_vendor(vendor, from).map_err(|refusal| refusal.field("from"))?;
    if from == to {
        let message = format!("stacks with version {from} have version {to} already: say another `from`");
        return Err(Refusal::new(Reason::InvalidValue, message).field("from"));
    }
    let invalid =
        |message: String, field: &str| Err(Refusal::new(Reason::InvalidValue, message).field(field));
    let steps = request.steps.clone().unwrap_or_else(|| STEPS.to_vec());
    let rises =
        steps.windows(2).all(|pair| pair[0] < pair[1]) && steps.first().is_some_and(|first| *first > 0);
    if !rises || steps.last() != Some(&100) || steps.len() > MOST_STEPS {
        let message = format!("the steps rise from above 0 to 100, and are at most {MOST_STEPS}");
        return invalid(message, "steps");
    }
    if request.canaries.len() > MOST_CANARIES {
        return invalid(format!("there are at most {MOST_CANARIES} canaries"), "canaries");
    }
    let at_once = request.at_once.unwrap_or(AT_ONCE);
    if !(1..=MOST_AT_ONCE).contains(&at_once) {
        return invalid(format!("1 to {MOST_AT_ONCE} customers are changed at once"), "at_once");
    }
    let pause_seconds = request.pause_seconds.unwrap_or_default();
    if pause_seconds > LONGEST_PAUSE {
        return invalid(format!("a pause takes at most {LONGEST_PAUSE} s"), "pause_seconds");
    }
    let waves = Waves {
        canaries: request.canaries.clone(),
        steps,
        max_failures: Some(1),
        max_failures_percent: None,
        when_held: WhenHeld::Wait,
        pause_seconds,
        at_once,
    };
    Ok(Rollout {
        v: ROLLOUT_VERSION,
        vendor: vendor
            .name
            .parse()
            .map_err(|_| Refusal::new(Reason::UnknownVendor, "a vendor's name is odd"))?,
        number: present.map_or(0, |rollout| rollout.number) + 1,
        from,
        to,
        digest: template.digest,
        rolls_back: None,
        waves: limits(waves, request)?,
        state: RolloutState::Running,
        why: None,
        wave: 0,
        wave_ended: None,
        counts: Counts::default(),
        summary: None,
        by: actor.clone(),
        began: now,
        time: now,
    })
}

/// The same with what is said of failures and of stacks that are held. A share that is said is not joined by the usual
/// number.
fn limits(waves: Waves, request: &RolloutRequest) -> Result<Waves, Refusal> {
    let share = request.max_failures_percent.map(|share| (share > 0).then_some(share));
    if share.flatten().is_some_and(|share| share > 100) {
        let message = "a share is at most 100 percent";
        return Err(Refusal::new(Reason::InvalidValue, message).field("max_failures_percent"));
    }
    let number = request.max_failures.map(|number| (number > 0).then_some(number));
    let max_failures = match (number, share) {
        (Some(number), _) => number,
        (None, Some(Some(_))) => None,
        (None, _) => waves.max_failures,
    };
    let max_failures_percent = share.unwrap_or(waves.max_failures_percent);
    let when_held = request.when_held.unwrap_or(waves.when_held);
    Ok(Waves { max_failures, max_failures_percent, when_held, ..waves })
}

/// The rollout that takes another one back: to everybody in one wave, as many at once as then. Nothing stops it but a
/// person: whoever did not come back yet should not stay behind because somebody else failed.
fn back(rollout: &Rollout, vendor: &Vendor, actor: &Actor, now: Timestamp) -> Result<Rollout, Refusal> {
    if let Some(number) = rollout.rolls_back {
        let message =
            format!("rollout {} takes rollout {number} back: start another one instead", rollout.number);
        return Err(Refusal::new(Reason::NoSuchRollout, message));
    }
    let template = templates::of_vendor(vendor, rollout.from)?;
    let waves = Waves {
        canaries: Default::default(),
        steps: vec![100],
        max_failures: None,
        max_failures_percent: None,
        when_held: WhenHeld::Skip,
        pause_seconds: 0,
        at_once: rollout.waves.at_once,
    };
    Ok(Rollout {
        number: rollout.number + 1,
        from: rollout.to,
        to: rollout.from,
        digest: template.digest,
        rolls_back: Some(rollout.number),
        waves,
        state: RolloutState::Running,
        why: None,
        wave: 0,
        wave_ended: None,
        counts: Counts::default(),
        summary: None,
        by: actor.clone(),
        began: now,
        time: now,
        ..rollout.clone()
    })
}
