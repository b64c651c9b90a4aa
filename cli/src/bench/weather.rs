//! What goes wrong at the vendor during a soak: one kind of trouble after the other, from a seed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use tokio_util::sync::CancellationToken;
use wanwright_simulator::{Faults, Jobs, Refuse};

use super::backdoor::BackDoor;
use crate::endpoints::Endpoints;

/// Longest time a kind of trouble lasts.
const LONGEST: Duration = Duration::from_secs(6);

/// What a vendor says that refuses for no good reason.
const REFUSALS: [u16; 3] = [400, 403, 422];

/// One kind of trouble with its name, or none.
fn next(random: &mut Rng) -> (&'static str, Faults) {
    let seed = random.u64(..);
    let usual = Faults { seed, ..Faults::default() };
    match random.u32(..13) {
        0 => ("storm", Faults { storm_seconds: random.u64(1..=3), ..usual }),
        1 => ("errors", Faults { error_rate: 0.3, ..usual }),
        2 => ("slow", Faults { latency_ms: 100, jitter_ms: 900, ..usual }),
        3 => ("answers cut", Faults { cut_mid_response: 0.3, ..usual }),
        4 | 5 => ("answers lost", Faults { accepted_but_answer_lost: 0.3, ..usual }),
        6 => ("down", Faults { down: true, ..usual }),
        7 | 8 => ("refuses", Faults { refuse: refusals(random), ..usual }),
        9 | 10 => ("jobs", Faults { jobs: Some(jobs(random)), ..usual }),
        _ => ("fair", usual),
    }
}

/// A few creates and a few changes of devices are refused: who asked is told, and has to say that it is tried again.
fn refusals(random: &mut Rng) -> Vec<Refuse> {
    let refuse = |method: &str, random: &mut Rng| Refuse {
        method: Some(method.to_owned()),
        path_prefix: Some("/v1/devices".to_owned()),
        times: Some(random.u32(1..=4)),
        status: REFUSALS[random.usize(..REFUSALS.len())],
        ..Refuse::default()
    };
    ["POST", "PUT"].map(|method| refuse(method, random)).into()
}

/// Changes of devices are jobs, some of which fail.
fn jobs(random: &mut Rng) -> Jobs {
    Jobs { looks: random.u32(0..=3), failure_rate: 0.2, ..Jobs::default() }
}

/// Changes the weather until told to stop, and ends with fair weather. The vendor may be away: it is then told later.
/// Answers how often the vendor had which.
pub async fn run(home: PathBuf, seed: u64, stop: CancellationToken) -> BTreeMap<&'static str, u32> {
    let mut random = Rng::with_seed(seed ^ 0x5eed_0f5a_1e57_0a11);
    let mut had = BTreeMap::new();
    loop {
        let ((name, faults), lasts) = (next(&mut random), LONGEST.mul_f64(random.f64()));
        if tell(&home, &faults).await.is_ok() {
            *had.entry(name).or_default() += 1;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(lasts) => {}
        }
    }
    while tell(&home, &Faults::default()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    had
}

async fn tell(home: &std::path::Path, faults: &Faults) -> anyhow::Result<()> {
    BackDoor::new(&Endpoints::read(home)?)?.faults(faults).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_most_of_the_plan_is_trouble() {
        let plan = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..200).map(|_| next(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(plan(1), plan(1));
        let names: BTreeMap<&str, ()> = plan(1).iter().map(|(name, _)| (*name, ())).collect();
        assert_eq!(names.len(), 9, "{names:?}");
        let fair = plan(1).iter().filter(|(name, _)| *name == "fair").count();
        assert!((15..80).contains(&fair), "{fair}");
    }
}
