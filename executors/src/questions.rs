//! Questions that executors are asked by request and reply: so many at once, each answered within a limit that counts from
//! when it came, and none of them keeps the process from ending.

use std::future::Future;
use std::time::Duration;

use async_nats::{Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::subjects;

/// The executors' queue group: each question is one executor's.
pub(crate) const GROUP: &str = "executors";

/// How long answers may take to end after the process was told to stop: what they wait for has ended by then.
const ENDING: Duration = Duration::from_secs(6);

/// Until when something may take.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    until: Instant,
    time: Duration,
    stop: CancellationToken,
}

impl Limit {
    /// So long from now on, and never past the end of the process.
    pub(crate) fn from_now(time: Duration, stop: &CancellationToken) -> Self {
        Self { until: Instant::now() + time, time, stop: stop.clone() }
    }

    /// Does something, which is dropped where it does not end in time.
    ///
    /// # Errors
    /// A sentence that says why it was dropped.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err("the executor stops".to_owned()),
            () = tokio::time::sleep_until(self.until) => {
                Err(format!("it took longer than {} s, with what it waited for", self.time.as_secs()))
            }
            done = work => Ok(done),
        }
    }
}

/// How many questions are answered at once, and how long each may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) most: usize,
    pub(crate) time: Duration,
}

/// Answers until told to stop. `answer` is given the body, and the limit; none where so many are being answered already:
/// then it says so at once.
pub(crate) async fn serve<A, F>(
    nats: &Nats,
    mut asked: Subscriber,
    bounds: Bounds,
    stop: &CancellationToken,
    answer: impl Fn(Bytes, Option<Limit>) -> F,
) where
    A: Serialize + Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let mut answers = JoinSet::new();
    loop {
        let question = tokio::select! {
            () = stop.cancelled() => break,
            question = asked.next() => question,
            _ = answers.join_next(), if !answers.is_empty() => continue,
        };
        let Some(question) = question else { break };
        // An answer goes where such answers go and nowhere else: it is published with this process's rights.
        let Some(to) = question.reply.filter(|to| to.starts_with(subjects::PREVIEWED)) else { continue };
        let limit = Limit::from_now(bounds.time, stop);
        while answers.try_join_next().is_some() {}
        if answers.len() < bounds.most {
            let made = answer(question.payload, Some(limit));
            answers.spawn(tell(nats.clone(), to, made));
        } else {
            // Not a task of its own: whoever asks faster than he can be told so waits.
            let told = tell(nats.clone(), to, answer(question.payload, None));
            let _ = limit.within(told).await;
        }
    }
    let ended = async { while answers.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDING, ended).await.is_err() {
        tracing::warn!("questions are left unanswered");
    }
}

async fn tell<A: Serialize>(nats: Nats, to: Subject, made: impl Future<Output = A>) {
    let Ok(body) = serde_json::to_vec(&made.await) else { return };
    if let Err(error) = nats.client.publish(to, body.into()).await {
        tracing::warn!(%error, "a question was not answered");
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::path::Path;

    use wanwright_supervisor::NatsOptions;

    use super::*;

    const TIME: Duration = Duration::from_secs(110);

    #[tokio::test(start_paused = true)]
    async fn a_limit_counts_from_when_the_question_came() {
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let limit = Limit::from_now(TIME, &stop);
        assert_eq!(limit.within(ready(7)).await, Ok(7));
        let waited = limit.within(tokio::time::sleep(TIME / 2)).await;
        assert_eq!((waited, began.elapsed()), (Ok(()), TIME / 2));
        let never = limit.within(pending::<()>()).await;
        assert!(never.is_err_and(|why| why.contains("110 s")));
        assert_eq!(began.elapsed(), TIME, "what it waited for before is counted");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_waited_for_when_the_process_ends() {
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let limit = Limit::from_now(TIME, &stop);
        let waits = tokio::spawn({
            let limit = limit.clone();
            async move { limit.within(pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        stop.cancel();
        let stopped = Err("the executor stops".to_owned());
        assert_eq!(waits.await.expect("an end"), stopped);
        assert_eq!(limit.within(ready(())).await, stopped, "and nothing is begun");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    /// Each question is told something, at the latest when the process ends.
    #[tokio::test]
    async fn so_many_are_answered_at_once_and_all_when_the_process_ends() {
        const WAIT: Duration = Duration::from_secs(20);
        let dir = tempfile::tempdir().expect("a folder");
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/programs");
        let server = wanwright_supervisor::Nats::start(&NatsOptions::new(dir.path(), cache)).await;
        let server = server.expect("a NATS");
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", 1).await.expect("a connection");
        let asked = nats.client.queue_subscribe(subjects::PREVIEW, GROUP.to_owned()).await.expect("a queue");
        let mut told = nats.client.subscribe(subjects::PREVIEWED_ALL).await.expect("the answers");
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (nats, stop) = (nats.clone(), stop.clone());
            async move {
                let bounds = Bounds { most: 2, time: TIME };
                let answer = |body: Bytes, limit: Option<Limit>| async move {
                    let Some(limit) = limit else { return "full".to_owned() };
                    match body.as_ref() {
                        b"now" => "done".to_owned(),
                        _ => limit.within(pending::<()>()).await.expect_err("it never ends"),
                    }
                };
                serve(&nats, asked, bounds, &stop, answer).await;
            }
        });
        let ask = async |token: &str, body: &'static str| {
            let to = subjects::previewed(token);
            let asked = nats.client.publish_with_reply(subjects::PREVIEW, to, body.into()).await;
            asked.expect("a question");
        };
        let mut heard = async || {
            let answer = tokio::time::timeout(WAIT, told.next()).await.expect("in time").expect("an answer");
            let said: String = serde_json::from_slice(&answer.payload).expect("a word");
            let token =
                answer.subject.strip_prefix(subjects::PREVIEWED).expect("where answers go").to_owned();
            (token, said)
        };
        let is = |token: &str, said: &str| (token.to_owned(), said.to_owned());
        ask("a", "now").await;
        assert_eq!(heard().await, is("a", "done"));
        // Where no such answer goes, nothing is said, and nothing is kept of it.
        let elsewhere = nats.client.publish_with_reply(subjects::PREVIEW, "wan.cmd.b", "ever".into()).await;
        elsewhere.expect("a question");
        for token in ["c", "d", "e"] {
            ask(token, "ever").await;
        }
        assert_eq!(heard().await, is("e", "full"));
        stop.cancel();
        let mut stopped = [heard().await, heard().await];
        stopped.sort();
        assert_eq!(stopped, ["c", "d"].map(|token| is(token, "the executor stops")));
        tokio::time::timeout(WAIT, serving).await.expect("in time").expect("an end");
    }
}
