//! What random lives ask for, and how often it is granted.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{Life, config, step};
use crate::model::Ask;

/// What is asked for in a word, and whether it is about a session or a plan.
pub fn called(ask: &Ask) -> String {
    let text = format!("{ask:?}");
    let word = text.split(|at: char| !at.is_alphanumeric()).next().unwrap_or_default();
    let about = ["Both", "Near", "Plan {"].into_iter().find(|about| text.contains(about)).unwrap_or_default();
    format!("{word} {about}").trim_end().to_owned()
}

#[test]
#[ignore = "counts what many lives ask for"]
fn whatever_is_asked_for_is_granted_and_refused() {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 1..60);
    let mut asked: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for number in 0..config(2000).cases {
        let mut life = Life::begun((number % 10) as u8);
        life.asked.clear();
        steps.new_tree(&mut runner).expect("steps").current().iter().for_each(|step| life.step(step));
        for (ask, became) in life.asked {
            asked.entry(ask).or_default().iter_mut().zip(became).for_each(|(all, more)| *all += more);
        }
    }
    println!("what changed something, changed nothing and was refused: {asked:?}");
    let is_seldom = |[changed, same, refused]: &[usize; 3]| {
        (changed + same).min(*refused) * 100 < changed + same + refused
    };
    // Half a session is refused where there was none before.
    let seldom: Vec<_> =
        asked.iter().filter(|(ask, became)| *ask != "CreateTunnel Near" && is_seldom(became)).collect();
    assert!(seldom.is_empty(), "{seldom:?}");
}
