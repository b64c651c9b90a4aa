//! What arrives at a door: a subject, headers and a body, and a way to answer.

use std::sync::OnceLock;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;
use wanwright_schemas::cloudevent::{self, CloudEvent};
use wanwright_schemas::envelope::{Digest, command_digest};
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::order::Order;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::trace::TraceContext;
use wanwright_vendors::SchemaVersion;

use super::delivery::Delivery;

/// Where the outcome goes.
#[derive(Debug)]
pub enum Answer {
    /// To whoever asked and waits.
    Reply(Option<Subject>),
    /// To the inbox, which removes the command.
    Inbox(Box<Delivery>),
}

/// A command at a door, its subject and headers read.
#[derive(Debug)]
pub struct Asked {
    /// The subject.
    pub subject: CommandSubject,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// When it came, in milliseconds since 1970: a durable command is as old as when it was stored.
    pub received_millis: u64,
    /// What a request takes of its lane's room; a command of the inbox takes it of the inbox's.
    pub room: Option<OwnedSemaphorePermit>,
    /// Where the outcome goes.
    pub answer: Answer,
    /// What a dry run found that is to be planned by an executor before it is answered.
    pub previews: OnceLock<Vec<Order>>,
}

/// The headers of a command.
#[derive(Debug, Clone)]
pub struct Headers {
    /// The command's id.
    pub command: CommandId,
    /// The generation the sender expects.
    pub expected_generation: Option<u64>,
    /// The version of the vendor's settings that the body speaks.
    pub schema: Option<SchemaVersion>,
    /// What caused the command.
    pub cause: Option<String>,
    /// What it belongs to.
    pub correlation: Option<String>,
    /// Whether to write nothing.
    pub dry_run: bool,
    /// Whether a dry run asks what Terraform would do as well.
    pub plan: bool,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
}

/// Longest text of a cause or correlation.
const MAX_TEXT: usize = 200;

impl Headers {
    /// Reads the headers of a command on this subject, which may be a CloudEvent; a command without an id gets `default`.
    fn read(
        headers: Option<&HeaderMap>,
        subject: &CommandSubject,
        event: Option<&CloudEvent<'_>>,
        default: impl FnOnce() -> CommandId,
    ) -> Result<Self, Refusal> {
        let get = |name: &str| find(headers?, name);
        let bad =
            |name: &str, why: String| Refusal::new(Reason::BadHeader, format!("{name}: {why}")).field(name);
        if let Some(unknown) = headers.and_then(unknown) {
            let unknown: String = unknown.chars().take(80).collect();
            return Err(bad(&unknown, format!("there is no such header; there are {}", KNOWN.join(", "))));
        }
        let command = match get(headers::COMMAND_ID) {
            // What another system calls the command. Its own header wins, then the event's id, then the message's.
            None => match (event, get(headers::MESSAGE_ID).filter(|id| !id.is_empty())) {
                (Some(event), _) => CommandId::foreign(&subject.actor, &event.source, &event.id),
                (None, Some(id)) => CommandId::foreign(&subject.actor, headers::MESSAGE_ID, id),
                (None, None) => default(),
            },
            Some(text) => text.parse().map_err(|error: wanwright_schemas::ids::InvalidCommandId| {
                bad(headers::COMMAND_ID, error.to_string())
            })?,
        };
        let expected_generation = match get(headers::EXPECTED_GENERATION) {
            None => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| bad(headers::EXPECTED_GENERATION, "it must be a whole number".to_owned()))?,
            ),
        };
        let dry_run = match get(headers::DRY_RUN) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(bad(headers::DRY_RUN, "it must be `true` or `false`".to_owned())),
        };
        let plan = match get(headers::PLAN) {
            None | Some("false") => false,
            Some("true") if dry_run => true,
            Some("true") => {
                let why = format!("only a dry run can ask for it; send {} as well", headers::DRY_RUN);
                return Err(bad(headers::PLAN, why));
            }
            Some(_) => return Err(bad(headers::PLAN, "it must be `true` or `false`".to_owned())),
        };
        let text = |name: &str| match get(name) {
            Some(text) if text.len() > MAX_TEXT || text.chars().any(char::is_control) => {
                Err(bad(name, format!("it must be at most {MAX_TEXT} bytes without control characters")))
            }
            text => Ok(text.map(str::to_owned)),
        };
        Ok(Self {
            command,
            expected_generation,
            schema: schema(get(headers::SCHEMA), event)?,
            cause: text(headers::CAUSATION_ID)?,
            correlation: text(headers::CORRELATION_ID)?,
            dry_run,
            plan,
            trace: trace(get, event),
        })
    }

    /// The headers as a sender writes them.
    pub fn write(&self, to: &mut HeaderMap) {
        to.insert(headers::COMMAND_ID, self.command.to_string().as_str());
        if let Some(generation) = self.expected_generation {
            to.insert(headers::EXPECTED_GENERATION, generation.to_string().as_str());
        }
        if let Some(schema) = self.schema {
            to.insert(headers::SCHEMA, schema.to_string().as_str());
        }
        if let Some(cause) = &self.cause {
            to.insert(headers::CAUSATION_ID, cause.as_str());
        }
        if let Some(correlation) = &self.correlation {
            to.insert(headers::CORRELATION_ID, correlation.as_str());
        }
        if self.dry_run {
            to.insert(headers::DRY_RUN, "true");
        }
        if self.plan {
            to.insert(headers::PLAN, "true");
        }
        self.write_trace(to);
    }

    /// The trace's headers, for whatever follows from the command.
    pub fn write_trace(&self, to: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            wanwright_nats::trace::write(trace, to);
        }
    }
}

/// The version of the vendor's settings that the body speaks: as its header says, or as the event's `dataschema` says.
fn schema(header: Option<&str>, event: Option<&CloudEvent<'_>>) -> Result<Option<SchemaVersion>, Refusal> {
    let refused = |name: &str, why: String| {
        Refusal::new(Reason::BadHeader, format!("{name}: {why}")).field(name.to_owned())
    };
    let read = |name: &str, text: &str| {
        text.parse::<SchemaVersion>().map_err(|error| refused(name, error.to_string()))
    };
    let header = header.map(|text| read(headers::SCHEMA, text)).transpose()?;
    let Some(named) = event.and_then(|event| event.schema.as_ref()) else { return Ok(header) };
    let version = read("dataschema", &named.version)?;
    if let Some(other) = header.filter(|other| *other != version) {
        let why = format!("it is `{named}`, and {} is {other}", headers::SCHEMA);
        return Err(refused("dataschema", why).next("Say the version once, or the same one twice."));
    }
    Ok(Some(version))
}

/// The values of a header by its name in any case: people type as they like, and a command whose id went unseen would be
/// carried out twice.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let all =
        headers.iter().filter(move |(typed, _)| AsRef::<str>::as_ref(*typed).eq_ignore_ascii_case(name));
    all.flat_map(|(_, values)| values.iter().map(|value| value.as_str().trim()))
}

/// The one value of a header. A header that is there twice says nothing.
fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = values(headers, name);
    values.next().filter(|_| values.next().is_none())
}

/// A header that means something to us and is there twice, so that nobody can say which one its sender meant.
fn twice(headers: &HeaderMap) -> Option<String> {
    let begins =
        |name: &str, with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let is_known = |name: &&str| {
        let known = ["content-type", "nats-msg-id"];
        begins(name, "wan-")
            || begins(name, "ce-")
            || known.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    let mut names = headers.iter().map(|(name, _)| AsRef::<str>::as_ref(name)).filter(is_known);
    names.find(|name| values(headers, name).nth(1).is_some()).map(str::to_ascii_lowercase)
}

/// The trace of the message, or else of the event.
fn trace<'a>(get: impl Fn(&str) -> Option<&'a str>, event: Option<&CloudEvent<'_>>) -> Option<TraceContext> {
    TraceContext::read(get(headers::TRACE_PARENT), get(headers::TRACE_STATE))
        .or_else(|| TraceContext::read(event?.traceparent.as_deref(), event?.tracestate.as_deref()))
}

/// What a message at a door says: its subject, its headers, and the body of the command, which is the data where the
/// message is a CloudEvent. A command without an id gets `default`.
///
/// # Errors
/// A refusal when the message is no command, or a CloudEvent that says otherwise than its subject.
pub(super) fn read(
    subject: &str,
    headers: Option<&HeaderMap>,
    body: &Bytes,
    default: impl FnOnce() -> CommandId,
) -> Result<(CommandSubject, Headers, Bytes), Refusal> {
    let subject = CommandSubject::parse(subject)?;
    if let Some(name) = headers.and_then(twice) {
        let name: String = name.chars().take(80).collect();
        return Err(Refusal::new(Reason::BadHeader, format!("{name}: it is there twice")).field(name));
    }
    let event = cloudevent::read(|name| find(headers?, name), body)?;
    if let Some(event) = &event {
        event.agrees(&subject)?;
    }
    let read = Headers::read(headers, &subject, event.as_ref(), default)?;
    let body = match event.map(|event| event.body) {
        Some(std::borrow::Cow::Owned(data)) => data.into(),
        Some(std::borrow::Cow::Borrowed(_)) | None => body.clone(),
    };
    Ok((subject, read, body))
}

/// Refuses a dry run at the durable doors: nobody waits there for the answer, and it is kept nowhere.
///
/// # Errors
/// That refusal.
pub(super) fn refuse_dry_run(headers: &Headers) -> Result<(), Refusal> {
    if !headers.dry_run {
        return Ok(());
    }
    let why =
        format!("{}: a dry run is answered and kept nowhere, so it cannot be durable", headers::DRY_RUN);
    let refusal = Refusal::new(Reason::BadHeader, why).field(headers::DRY_RUN);
    Err(refusal.next("Send it as a request, on wan.do.<customer>.<actor>.<kind>.<id>.<verb>."))
}

/// What a command's sender may say. Whoever asks for `Wan-Dryrun` must not have the command carried out.
const KNOWN: [&str; 7] = [
    headers::COMMAND_ID,
    headers::EXPECTED_GENERATION,
    headers::SCHEMA,
    headers::CAUSATION_ID,
    headers::CORRELATION_ID,
    headers::DRY_RUN,
    headers::PLAN,
];

/// A header that looks like one of ours and is none.
fn unknown(headers: &HeaderMap) -> Option<String> {
    let mut names = headers.iter().map(|(name, _)| AsRef::<str>::as_ref(name));
    let unknown = names.find(|name| {
        name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("wan-"))
            && !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name))
    });
    unknown.map(str::to_owned)
}

impl Asked {
    /// When it came.
    pub fn received(&self) -> Timestamp {
        let millis = i64::try_from(self.received_millis).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }

    /// What tells this command from another one with the same id.
    pub fn digest(&self) -> Digest {
        command_digest(&self.subject.object.to_string(), &self.subject.verb, &self.body)
    }
}

#[cfg(test)]
mod tests {
    use async_nats::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const SUBJECT: &str = "wan.do.acme.demo.site.oslo.create";

    fn default() -> CommandId {
        CommandId::of_message(1, 1)
    }

    fn name() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "Wan-Command-Id",
            "wan-expected-generation",
            "WAN-DRY-RUN",
            "Wan-Correlation-Id",
            "Wan-Causation-Id",
            "Nats-Msg-Id",
            "ce-id",
            "ce-source",
            "ce-type",
            "ce-specversion",
            "ce-dataschema",
            "Content-Type",
            "traceparent",
            "tracestate",
            "Nats-Trace-Only",
        ]);
        prop_oneof![4 => known.prop_map(str::to_owned), 1 => "[!-9;-~]{1,20}", 1 => "wan-[a-z]{0,9}"]
    }

    fn value() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "1.0",
            "true",
            "7",
            "018f0000-0000-7000-8000-000000000000",
            "application/json",
            "urn:wanwright:site:v1",
            "%C3%28",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "a=b",
            "/erp",
            "",
        ]);
        prop_oneof![known.prop_map(str::to_owned), "[ -~]{0,40}", any::<String>()]
    }

    fn map(headers: &[(String, String)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
                map.append(name, value);
            }
        }
        map
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What is read and written again is read as the same, so that a dead letter can be sent again.
        #[test]
        fn any_headers(headers in prop::collection::vec((name(), value()), 0..8), body in prop::collection::vec(any::<u8>(), 0..60)) {
            let body = Bytes::from(body);
            match read(SUBJECT, Some(&map(&headers)), &body, default) {
                Err(refusal) => prop_assert!(!refusal.message.is_empty() && refusal.code != Reason::Internal),
                Ok((subject, read_once, body)) => {
                    let mut again = HeaderMap::new();
                    read_once.write(&mut again);
                    let (_, read_twice, _) = read(&subject.request(), Some(&again), &body, CommandId::mint).expect("what we wrote");
                    prop_assert_eq!(format!("{read_once:?}"), format!("{read_twice:?}"));
                }
            }
        }
    }

    #[test]
    fn a_header_that_is_there_twice_is_refused() {
        let refused = |headers: &[(&str, &str)]| {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            read(SUBJECT, Some(&map(&headers)), &Bytes::new(), default)
                .err()
                .and_then(|refusal| refusal.field)
        };
        let dry = "wan-dry-run";
        assert_eq!(refused(&[("Wan-Dry-Run", "true"), (dry, "false")]).as_deref(), Some(dry));
        assert_eq!(refused(&[(dry, "true"), (dry, "true")]).as_deref(), Some(dry));
        // A trace that nobody can tell is left out, and other systems' headers are theirs.
        assert_eq!(refused(&[("traceparent", "a"), ("Traceparent", "b"), ("x", "1"), ("X", "2")]), None);
    }
}
