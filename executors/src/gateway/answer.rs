//! Answers: the gateway's own, and the vendor's as a caller may see it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use jiff::Timestamp;
use url::Url;

use super::Lane;
use super::budget::LONGEST_PENALTY;
use super::credential::Secret;
use super::mask::{self, Form};
use super::run::Run;
use super::secrets::{Known, Secrets};
use super::target::Address;

/// What the vendor answered.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Without secrets.
    pub(super) body: Bytes,
    /// What was asked.
    pub(super) asked: Url,
}

/// What nobody may see of an answer.
pub(super) struct Hidden<'a> {
    pub(super) credential: &'a Secret,
    /// The secrets of the run.
    pub(super) known: &'a Known,
    /// And the fields that have some, whoever's they are.
    pub(super) secrets: &'a Secrets,
}

impl Hidden<'_> {
    /// A vendor that quotes the request must not hand its secrets to engines and logs.
    pub(super) fn body(&self, body: Bytes) -> Bytes {
        let mut found = self.secrets.found(self.known, &body);
        found.extend(mask::found(&self.forms(), &body));
        mask::without(&body, found).map_or(body, Bytes::from)
    }

    fn header(&self, value: &HeaderValue) -> HeaderValue {
        let masked = mask::without(value.as_bytes(), mask::found(&self.forms(), value.as_bytes()));
        masked.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()).unwrap_or_else(|| value.clone())
    }

    fn forms(&self) -> Vec<&Form> {
        self.known.forms().chain(self.credential.forms()).collect()
    }
}

/// An answer of the gateway itself.
pub(super) fn problem(status: u16, what: &str) -> Response {
    let body = serde_json::json!({ "error": { "code": "gateway", "message": what } }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The vendor's answer without secrets in its headers, and with its own addresses as the run has to ask for them. A redirect to
/// anywhere else, or an address of anywhere else where one is followed, is not passed on.
pub(super) fn respond(lane: &Lane, run: &Run, hidden: &Hidden<'_>, answered: Answered) -> Response {
    let Answered { status, headers, body, asked } = answered;
    let address = |value: &HeaderValue| {
        let text = value.to_str().ok()?;
        match lane.base.address(text, &asked, &run.base_url) {
            Address::Ours(ours) => HeaderValue::from_str(&ours).ok(),
            Address::Foreign => None,
        }
    };
    let location = headers.get(header::LOCATION);
    let location = location.map(address);
    if status.is_redirection() && location == Some(None) {
        return problem(502, "the vendor answered with a redirect to somewhere else, which is not followed");
    }
    let body = match lane.base.body(&body, &lane.addresses, &asked, &run.base_url) {
        Ok(None) => body,
        Ok(Some(rewritten)) => rewritten.into(),
        Err(()) => return problem(502, "the vendor's answer names an address that is not its own"),
    };
    let links = headers.get_all(header::LINK).iter();
    let links = links.map(|value| lane.base.links(value, &asked, &run.base_url));
    let Ok(links) = links.collect::<Result<Vec<_>, _>>() else {
        return problem(502, "the vendor's answer names a next page that is not at its own address");
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kept = [header::CONTENT_TYPE, header::ETAG];
    // In seconds: who reads a date needs the clock of who wrote it.
    if let Some(wish) = retry_after(&headers) {
        response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(wish).into());
    }
    for (name, value) in &headers {
        if kept.contains(name) || name.as_str().starts_with("idempotent-") {
            response.headers_mut().append(name.clone(), hidden.header(value));
        }
    }
    let links = links.into_iter().flatten().map(|value| (header::LINK, value));
    for (name, value) in location.flatten().map(|value| (header::LOCATION, value)).into_iter().chain(links) {
        response.headers_mut().append(name, hidden.header(&value));
    }
    response
}

/// Says that the vendor is busy, whichever way it said so itself.
pub(super) fn busy(penalty: Duration) -> Response {
    let mut response = problem(429, "the vendor asks to be called less often");
    response.headers_mut().insert(header::RETRY_AFTER, whole_seconds(penalty).into());
    response
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// How long the vendor wants to be left alone: seconds, or a date, which is compared with the answer's own.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let time = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let sent = headers.get(header::DATE).and_then(|date| http_date(date.to_str().ok()?));
            let wait = http_date(text)?.duration_since(sent.unwrap_or_else(Timestamp::now));
            Duration::try_from(wait).unwrap_or_default()
        }
    };
    Some(time.min(LONGEST_PENALTY))
}

fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_vendors_own_clock() {
        let headers = |pairs: &[(header::HeaderName, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
        };
        let after = |pairs: &[_]| retry_after(&headers(pairs));
        assert_eq!(after(&[(header::RETRY_AFTER, " 7 ")]), Some(Duration::from_secs(7)));
        let date = (header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        let at = (header::RETRY_AFTER, "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(after(&[date, at]), Some(Duration::from_secs(30)));
        let past = (header::RETRY_AFTER, "Sun, 06 Nov 1994 08:40:07 GMT");
        assert_eq!(after(&[past]), Some(Duration::ZERO));
        assert_eq!(after(&[(header::RETRY_AFTER, "3600")]), Some(Duration::from_secs(3600)));
        assert_eq!(after(&[(header::RETRY_AFTER, "99999999")]), Some(LONGEST_PENALTY));
        assert_eq!((after(&[(header::RETRY_AFTER, "soon")]), after(&[])), (None, None));
    }
}
