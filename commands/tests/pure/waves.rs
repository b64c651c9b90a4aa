//! How waves follow each other: a fleet is simulated, with a process that dies anywhere, stacks that are held, frozen and taken
//! back, and customers that cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;
use wanwright_commands::rollouts::{Reading, Tally, last_wave, step, wave_of};
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::rollout::{Rollout, RolloutRequest, RolloutState, RolloutVerb, WhenHeld};

use crate::rollouts::{ask, names, now, started, to};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sim {
    Waiting,
    /// It waits for an approval so many turns.
    Held(u8),
    Progressing,
    Applied,
    Failed,
    TakenBack,
}

/// A stack and what will come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stack {
    is: Sim,
    held: u8,
    becomes: Sim,
}

impl Stack {
    fn is_done(&self) -> bool {
        matches!(self.is, Sim::Applied | Sim::Failed | Sim::TakenBack)
    }

    fn counts_as_lost(&self) -> bool {
        matches!(self.is, Sim::Failed | Sim::TakenBack)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    stacks: Vec<Stack>,
    /// For so many turns it is frozen.
    frozen: u8,
    /// For so many turns it cannot be read.
    unread: u8,
}

/// A fleet, and what is known of it.
#[derive(Debug, Clone)]
struct Fleet {
    members: BTreeMap<CustomerId, Member>,
    known: BTreeMap<CustomerId, Tally>,
}

impl Fleet {
    fn read(&mut self) -> Reading {
        let mut unread = BTreeSet::new();
        for (name, member) in &self.members {
            if member.unread > 0 {
                unread.insert(name.clone());
            } else {
                self.known.insert(name.clone(), tally(member));
            }
        }
        Reading { tallies: self.known.clone(), unread, is_partial: false }
    }

    fn stacks(&self) -> impl Iterator<Item = &Stack> {
        self.members.values().flat_map(|member| &member.stacks)
    }

    fn busy(&self) -> usize {
        let is_busy = |stack: &Stack| matches!(stack.is, Sim::Progressing | Sim::Held(_));
        self.members.values().filter(|member| member.stacks.iter().any(is_busy)).count()
    }

    fn lost(&self) -> usize {
        self.stacks().filter(|stack| stack.counts_as_lost()).count()
    }

    fn give(&mut self, name: &CustomerId) {
        let member = self.members.get_mut(name).expect("a customer");
        assert!(member.unread == 0, "whoever cannot be read is given nothing");
        assert!(member.frozen == 0, "whoever is frozen is given nothing");
        let mut waiting: Vec<&mut Stack> =
            member.stacks.iter_mut().filter(|stack| stack.is == Sim::Waiting).collect();
        assert!(!waiting.is_empty(), "nobody is given it twice");
        for stack in &mut waiting {
            stack.is = if stack.held > 0 { Sim::Held(stack.held) } else { Sim::Progressing };
        }
    }

    /// A turn passes: every n-th stack that is being changed ends.
    fn go_on(&mut self, luck: u8) {
        let each = usize::from(luck % 3) + 1;
        for member in self.members.values_mut() {
            member.frozen = member.frozen.saturating_sub(1);
            member.unread = member.unread.saturating_sub(1);
        }
        let mut stacks: Vec<&mut Stack> =
            self.members.values_mut().flat_map(|member| &mut member.stacks).collect();
        let under_way = stacks.iter_mut().filter(|stack| stack.is == Sim::Progressing);
        under_way.step_by(each).for_each(|stack| stack.is = stack.becomes);
        for stack in stacks {
            if let Sim::Held(turns) = stack.is {
                stack.is = if turns > 1 { Sim::Held(turns - 1) } else { Sim::Progressing };
            }
        }
    }
}

fn tally(member: &Member) -> Tally {
    let mut tally = Tally::default();
    for (number, stack) in member.stacks.iter().enumerate() {
        match stack.is {
            Sim::Waiting if member.frozen > 0 => tally.frozen += 1,
            Sim::Waiting => tally.waiting.push(format!("s{number}").parse().expect("an id")),
            Sim::Held(_) => tally.held += 1,
            Sim::Progressing => tally.progressing += 1,
            Sim::Applied => tally.applied += 1,
            Sim::Failed => tally.failed += 1,
            Sim::TakenBack => tally.taken_back += 1,
        }
    }
    tally
}

/// Drives a rollout to its end. `luck` says, time after time, how far the process comes before it dies.
fn drive(mut rollout: Rollout, mut fleet: Fleet, luck: &[u8]) -> (Rollout, Fleet) {
    let mut now = now();
    let waves: BTreeMap<CustomerId, u32> =
        fleet.members.keys().map(|name| (name.clone(), wave_of(&rollout, name))).collect();
    let at_once = usize::try_from(rollout.waves.at_once).expect("few");
    for turn in 0..10_000 {
        let luck = if luck.is_empty() { 1 } else { luck[turn % luck.len()] };
        let reading = fleet.read();
        let next = step(&rollout, &reading, now);
        assert_eq!(step(&rollout, &reading, now), next, "the same again after a restart");
        if next.rollout.state != RolloutState::Running {
            assert!(next.give.is_empty());
            return (next.rollout, fleet);
        }
        // It may die before it wrote the record, and in the middle of giving.
        if luck % 5 != 0 {
            let gives =
                if luck % 7 == 0 { usize::from(luck) % (next.give.len() + 1) } else { next.give.len() };
            if let Some(most) = rollout.waves.max_failures {
                let known: u32 = reading.tallies.values().map(|tally| tally.failed + tally.taken_back).sum();
                assert!(gives == 0 || known < most);
            }
            for name in &next.give[..gives] {
                assert!(waves[name] <= next.rollout.wave);
                fleet.give(name);
            }
            rollout = next.rollout;
        } else {
            // Whoever takes over knows of nobody but by reading.
            fleet.known.clear();
        }
        // Those of whom nothing is known may be under way since before.
        let unknown = reading.unread.iter().filter(|name| !reading.tallies.contains_key(*name)).count();
        let skips = rollout.waves.when_held != WhenHeld::Wait;
        assert!(skips || fleet.busy() <= at_once + unknown);
        let begun = |member: &Member| member.stacks.iter().any(|stack| stack.is != Sim::Waiting);
        let latest = fleet.members.iter().filter(|(_, member)| begun(member)).map(|(name, _)| waves[name]);
        let latest = latest.max();
        let mut earlier = fleet.members.iter().filter(|(name, _)| Some(waves[*name]) < latest);
        let is_over = |member: &Member| member.stacks.iter().all(Stack::is_done);
        assert!(skips || earlier.all(|(_, member)| is_over(member)), "a wave ends before the next one");
        fleet.go_on(luck);
        now += SignedDuration::from_secs(7);
    }
    panic!("it never ends");
}

fn fleets() -> impl Strategy<Value = Fleet> {
    let becomes = prop_oneof![8 => Just(Sim::Applied), 1 => Just(Sim::Failed), 1 => Just(Sim::TakenBack)];
    let few = || prop_oneof![4 => Just(0u8), 1 => 1..20u8];
    let stack = (few(), becomes).prop_map(|(held, becomes)| Stack { is: Sim::Waiting, held, becomes });
    let member = (prop::collection::vec(stack, 1..4), few(), few());
    let member = member.prop_map(|(stacks, frozen, unread)| Member { stacks, frozen, unread });
    prop::collection::vec(member, 0..25).prop_map(|all| {
        let members = names(all.len()).into_iter().zip(all).collect();
        Fleet { members, known: BTreeMap::new() }
    })
}

fn lost_at_last(fleet: &Fleet) -> usize {
    fleet.stacks().filter(|stack| stack.becomes != Sim::Applied).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// However often its process dies, a rollout that nothing stops comes to the end it would have come to, and to everybody.
    #[test]
    fn a_rollout_ends_the_same_wherever_its_process_dies(
        fleet in fleets(),
        luck in prop::collection::vec(1..=255u8, 1..12),
        at_once in 1..6u32,
        pause in 0..30u32,
        canary in any::<bool>(),
        when_held in prop_oneof![Just(WhenHeld::Wait), Just(WhenHeld::Skip)],
    ) {
        let canaries = canary.then(|| "c0".parse().expect("an id")).into_iter().collect();
        let request = RolloutRequest {
            canaries, steps: Some(vec![20, 60, 100]), max_failures: Some(0), at_once: Some(at_once),
            pause_seconds: Some(pause), when_held: Some(when_held), ..to(2)
        };
        // One that always dies before it writes gets nowhere.
        prop_assume!(luck.iter().any(|luck| luck % 5 != 0 && luck % 7 != 0));
        for luck in [&[], luck.as_slice()] {
            let (rollout, end) = drive(started(&request), fleet.clone(), luck);
            prop_assert_eq!((rollout.state, rollout.wave), (RolloutState::Done, last_wave(&rollout)));
            prop_assert_eq!(rollout.counts.unread, 0);
            let is_given = |stack: &Stack| stack.is != Sim::Waiting;
            prop_assert!(end.stacks().all(is_given), "nobody is left out: {:?}", end.members);
            let waits = when_held == WhenHeld::Wait;
            prop_assert!(!waits || end.stacks().all(|stack| stack.is == stack.becomes));
        }
    }

    /// It stops at its bound, gives the version to nobody from then on, and goes on where it was when it may.
    #[test]
    fn a_rollout_stops_at_its_bound_and_goes_on_from_there(
        fleet in fleets(),
        luck in prop::collection::vec(1..=255u8, 1..12),
        most in 1..4u32,
    ) {
        prop_assume!(luck.iter().any(|luck| luck % 5 != 0 && luck % 7 != 0));
        let request = RolloutRequest {
            steps: Some(vec![20, 60, 100]), max_failures: Some(most), at_once: Some(2), ..to(2)
        };
        let failing = lost_at_last(&fleet);
        let (rollout, stopped) = drive(started(&request), fleet, &luck);
        let most = usize::try_from(most).expect("few");
        if failing < most {
            prop_assert_eq!(rollout.state, RolloutState::Done);
            return Ok(());
        }
        prop_assert_eq!(rollout.state, RolloutState::Stopped);
        prop_assert!(stopped.lost() >= most);
        prop_assert!(rollout.why.as_deref().is_some_and(|why| why.contains("stacks failed")));
        let unlimited = RolloutRequest { max_failures: Some(0), ..RolloutRequest::default() };
        let resumed = ask(Some(&rollout), RolloutVerb::Resume, &unlimited).expect("resumed");
        let (done, end) = drive(resumed, stopped, &luck);
        prop_assert_eq!(done.state, RolloutState::Done);
        prop_assert!(end.stacks().all(|stack| stack.is == stack.becomes));
    }
}
