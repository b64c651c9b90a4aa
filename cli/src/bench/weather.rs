//! What goes wrong at the vendor during a soak: one kind of trouble after the other, from a seed.

use std::path::PathBuf;
use std::time::Duration;

use fastrand::Rng;
use tokio_util::sync::CancellationToken;
use wanwright_simulator::Faults;

use super::backdoor::BackDoor;
use crate::endpoints::Endpoints;

/// Longest time a kind of trouble lasts.
const LONGEST: Duration = Duration::from_secs(6);

/// One kind of trouble, or none.
fn next(random: &mut Rng) -> Faults {
    let seed = random.u64(..);
    let usual = Faults { seed, ..Faults::default() };
    match random.u32(..10) {
        0 => Faults { storm_seconds: random.u64(1..=3), ..usual },
        1 => Faults { error_rate: 0.3, ..usual },
        2 => Faults { latency_ms: 100, jitter_ms: 900, ..usual },
        3 => Faults { cut_mid_response: 0.3, ..usual },
        4 | 5 => Faults { accepted_but_answer_lost: 0.3, ..usual },
        6 => Faults { down: true, ..usual },
        _ => usual,
    }
}

/// Changes the weather until told to stop, and ends with fair weather. The vendor may be away: it is then told later.
pub async fn run(home: PathBuf, seed: u64, stop: CancellationToken) {
    let mut random = Rng::with_seed(seed ^ 0x5eed_0f5a_1e57_0a11);
    loop {
        let (faults, lasts) = (next(&mut random), LONGEST.mul_f64(random.f64()));
        let _ = tell(&home, &faults).await;
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(lasts) => {}
        }
    }
    while tell(&home, &Faults::default()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
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
        let fair = plan(1)
            .iter()
            .filter(|faults| **faults == Faults { seed: faults.seed, ..Faults::default() })
            .count();
        assert!((30..120).contains(&fair), "{fair}");
    }
}
