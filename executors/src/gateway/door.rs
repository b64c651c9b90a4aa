//! The way to the gateway for callers in this process: the same forwarding, and no connection to get there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::BodyExt;
use wanwright_vendors::{Brought, Carried, Carrier};

use super::forward::{self, Call};
use super::run::Run;
use super::{Inner, MAX_BODY, answer};

/// The door of one run.
pub(super) struct Door {
    pub(super) inner: Arc<Inner>,
    pub(super) run: Arc<Run>,
}

impl Carrier for Door {
    fn carry(&self, call: Carried) -> Pin<Box<dyn Future<Output = Brought> + Send + '_>> {
        Box::pin(async move {
            let Carried { method, url, headers, body } = call;
            // What the client's address has before the call's own path is the run's.
            let path = url.as_str().strip_prefix(&self.run.base_url).map(|_| url.path());
            let path =
                path.and_then(|path| path.split_once(self.run.token())).map(|(_, path)| path.to_owned());
            let response = match path {
                Some(_) if body.len() > MAX_BODY => answer::problem(413, "the call's body is too large"),
                Some(path) => {
                    let query = url.query().map(str::to_owned);
                    let call = Call { method, path, query, headers, body: body.into() };
                    forward::surely(Arc::clone(&self.inner), Arc::clone(&self.run), call).await
                }
                None => super::nowhere().await,
            };
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok((parts.status.as_u16(), parts.headers, body.into()))
        })
    }
}
