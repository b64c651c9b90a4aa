//! What a customer says about itself: rules, windows, accounts.

use wanwright_schemas::Reason::*;

use super::approvals::Waits;
use super::{Answer, Kind, Model};

/// What has to happen before something is brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rule {
    #[default]
    Apply,
    /// So many others approve it.
    Approve(usize),
    /// It is planned, and so many others approve the plan: any, or only one that takes something away. A plan is good for
    /// so many minutes.
    Plan { by: usize, any: bool, minutes: i64 },
}

/// How many minutes a plan has to be good for.
const SHORTEST: i64 = 10;

impl Rule {
    /// How many approvals it wants, of whatever it is.
    pub(super) fn by(self) -> usize {
        match self {
            Self::Apply => 0,
            Self::Approve(by) | Self::Plan { by, .. } => by,
        }
    }

    pub(super) fn plans(self) -> bool {
        matches!(self, Self::Plan { .. })
    }

    /// Whether the other one lets something through that this one does not.
    fn is_weaker(self, other: Self) -> bool {
        match (self, other) {
            (Self::Apply, _) => false,
            (_, Self::Apply) | (Self::Plan { .. }, Self::Approve(_)) => true,
            (Self::Approve(before), Self::Approve(after)) => after < before,
            (Self::Approve(before), Self::Plan { by, any, .. }) => !any || by < before,
            (
                Self::Plan { by: by_before, any: any_before, minutes: before },
                Self::Plan { by, any, minutes },
            ) => by < by_before || (any_before && !any) || minutes > before,
        }
    }
}

/// The vendors at which an account may be named: one with accounts, one without, one that is not there.
pub const BUYERS: [&str; 3] = ["northwan", "barewan", "nowan"];

/// Credential and budget of accounts, and whether the first vendor has such a one for the customer.
pub const ACCOUNTS: [(&str, &str, bool); 4] =
    [("acme-north", "acme", true), ("a", "b", true), ("a", "acme", false), ("globex", "globex", false)];

const NO_WINDOW: usize = 2;

/// What a customer says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    /// For the changes of sites, tunnels and devices.
    pub(super) rules: [Rule; 3],
    /// The windows of sites and of devices.
    pub(super) windows: [usize; 2],
    /// The account at each vendor.
    pub(super) accounts: [Option<usize>; 3],
}

impl Default for Settings {
    fn default() -> Self {
        Self { rules: [Rule::Apply; 3], windows: [NO_WINDOW; 2], accounts: [None; 3] }
    }
}

impl Model {
    pub(super) fn rule(&self, kind: Kind) -> Rule {
        self.settings.rules[kind as usize]
    }

    /// Whether settings can be followed that are none yet.
    fn can_be(&self, after: Settings) -> Answer {
        let before = self.settings;
        for vendor in (0..3).filter(|vendor| after.accounts[*vendor] != before.accounts[*vendor]) {
            match after.accounts[vendor] {
                Some(_) if vendor == 2 => return Err(UnknownVendor),
                Some(account) if vendor == 1 || !ACCOUNTS[account].2 => return Err(UnknownAccount),
                _ => {}
            }
        }
        if after.rules[1..].iter().any(|rule| rule.plans()) {
            return Err(NotPlannable);
        }
        if let Rule::Plan { minutes, .. } = after.rules[0]
            && minutes < SHORTEST
        {
            return Err(InvalidValue);
        }
        self.is_plannable(after)
    }

    /// Sites that cannot be planned are under no rule that plans.
    fn is_plannable(&self, after: Settings) -> Answer {
        let bare = self.things.iter().any(|thing| thing.kind == Kind::Site && thing.vendor == 1);
        if bare && after.rules[0].plans() { Err(NotPlannable) } else { Ok(()) }
    }

    /// Other settings. What makes a rule weaker waits for as many approvals as that one wants.
    pub(super) fn change_settings(&mut self, after: Settings, who: &'static str, now: i64) -> Answer {
        if self.leaving {
            return Err(BeingRemoved);
        }
        let before = self.settings;
        if after == before {
            return Ok(());
        }
        self.can_be(after)?;
        let weaker = |kind: &usize| {
            let windowed = kind / 2;
            let rule = before.rules[*kind];
            rule.is_weaker(after.rules[*kind])
                || (rule != Rule::Apply && after.windows[windowed] > before.windows[windowed])
        };
        let needs: Vec<usize> = (0..3).filter(weaker).map(|kind| before.rules[kind].by()).collect();
        let Some(first) = needs.first() else {
            self.asked += 1;
            self.adopt(after, &[who], now);
            return Ok(());
        };
        if needs.iter().any(|other| other != first) {
            return Err(InvalidValue);
        }
        let is_repeat = |(settings, waits): &(Settings, Waits)| *settings == after && waits.asked == [who];
        if !self.looser.as_ref().is_some_and(is_repeat) {
            let waits = Waits { asked: vec![who], needs: *first, ..Waits::default() };
            self.looser = Some((after, waits));
            self.asked += 1;
        }
        Ok(())
    }

    /// Other settings are in force. What is being planned at a vendor is asked for by who gives that another account.
    fn adopt(&mut self, after: Settings, asked: &[&'static str], now: i64) {
        let before = self.settings;
        let is_other = |vendor: usize| before.accounts[vendor] != after.accounts[vendor];
        let sites: Vec<usize> = (0..self.things.len())
            .filter(|at| self.things[*at].kind == Kind::Site && is_other(self.things[*at].vendor))
            .filter(|at| {
                self.together(Kind::Site, self.things[*at].name)
                    .iter()
                    .any(|at| self.things[*at].planning.is_some())
            })
            .collect();
        for at in sites {
            let rule = self.rule_of(self.things[at].name).expect("something is being planned");
            asked.iter().for_each(|who| self.is_to_be_planned(at, rule, who));
        }
        (self.settings, self.looser) = (after, None);
        self.judge_again(now);
    }

    pub(super) fn approve_policy(&mut self, off: u64, who: &'static str, now: i64) -> Answer {
        if self.leaving {
            return Err(BeingRemoved);
        }
        let before = self.looser.clone();
        if Self::given(self.looser.as_mut().map(|(_, waits)| waits), who, off)? {
            let (settings, waits) = self.looser.clone().expect("the settings that waited");
            // What was made meanwhile may be such that they cannot be followed any more.
            if let Err(refused) = self.is_plannable(settings) {
                self.looser = before;
                return Err(refused);
            }
            let asked: Vec<&'static str> = waits.asked.iter().copied().chain([who]).collect();
            self.adopt(settings, &asked, now);
        }
        Ok(())
    }

    pub(super) fn reject_policy(&mut self, off: u64) -> Answer {
        Self::rejected(self.looser.as_mut().map(|(_, waits)| waits), off)?;
        self.looser = None;
        Ok(())
    }
}
