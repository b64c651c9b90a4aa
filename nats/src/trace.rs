//! The trace of a message, in its headers: whatever follows from a message carries it on.

use async_nats::HeaderMap;
use wanwright_schemas::headers::{TRACE_PARENT, TRACE_STATE};
use wanwright_schemas::trace::TraceContext;

/// The trace that a stored message belongs to, as [`write`] put it there.
pub fn read(headers: &HeaderMap) -> Option<TraceContext> {
    let get = |name: &str| headers.get(name).map(|value| value.as_str());
    TraceContext::read(get(TRACE_PARENT), get(TRACE_STATE))
}

/// Puts a trace into a message's headers.
pub fn write(trace: &TraceContext, to: &mut HeaderMap) {
    to.insert(TRACE_PARENT, trace.parent.as_str());
    if let Some(state) = &trace.state {
        to.insert(TRACE_STATE, state.as_str());
    }
}
