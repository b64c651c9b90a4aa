//! The tasks of the service: none of them may end unseen.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::NatsError;

/// Waits for all tasks, each of which answers what it was.
///
/// # Errors
/// At once, when one ends before the service is told to stop: the others would go on as if nothing were missing. When
/// one panics afterwards, once the others are done.
pub(super) async fn all(
    tasks: &mut JoinSet<&'static str>,
    stop: &CancellationToken,
) -> Result<(), NatsError> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let stopping = stop.is_cancelled();
        let source = match ended {
            Ok(_) if stopping => continue,
            Ok(what) => format!("{what} ended by itself").into(),
            Err(error) => error.into(),
        };
        result = Err(NatsError::Failed { doing: "running the command service".to_owned(), source });
        if !stopping {
            return result;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(
        stop: &CancellationToken,
        ends: impl Future<Output = &'static str> + Send + 'static,
    ) -> bool {
        let mut tasks = JoinSet::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            stopped.cancelled().await;
            "a patient task"
        });
        tasks.spawn(ends);
        all(&mut tasks, stop).await.is_ok()
    }

    #[tokio::test]
    async fn a_task_that_ends_early_ends_the_service() {
        let stop = CancellationToken::new();
        assert!(!run(&stop, async { "a lane" }).await);
        assert!(!run(&stop, async { panic!("of a lane") }).await);
        stop.cancel();
        assert!(run(&stop, async { "a lane" }).await);
        assert!(!run(&stop, async { panic!("of a lane") }).await);
    }
}
