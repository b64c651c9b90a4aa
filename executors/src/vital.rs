//! Tasks that a process cannot do without: one that ends early, or panics, is an error of the whole process.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Says so when it is dropped before its time; a panic drops it too.
struct Watch {
    name: &'static str,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            tracing::error!(task = self.name, "a task ended that has to go on");
            self.failed.cancel();
        }
    }
}

/// Starts a task that has to live until `stop`. Should it end before, `failed` is cancelled.
pub(crate) fn spawn(
    name: &'static str,
    stop: &CancellationToken,
    failed: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let watch = Watch { name, stop: stop.clone(), failed: failed.clone() };
    tokio::spawn(async move {
        let _watch = watch;
        task.await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed() {
        let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
        spawn("test", &stop, &failed, async { panic!("in a test") });
        failed.cancelled().await;
    }

    #[tokio::test]
    async fn a_task_that_was_told_to_stop_is_no_failure() {
        let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
        let (told, ended) = (stop.clone(), tokio::sync::oneshot::channel());
        spawn("test", &stop, &failed, async move {
            told.cancelled().await;
            let _ = ended.0.send(());
        });
        stop.cancel();
        assert!(ended.1.await.is_ok());
        assert!(!failed.is_cancelled());
    }
}
