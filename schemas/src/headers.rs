//! The headers of a command, as people type them.

/// The command's id, a UUIDv7. Without it a durable command gets the id of its place in the inbox.
pub const COMMAND_ID: &str = "Wan-Command-Id";
/// What a group of commands belongs to; passed on to the events.
pub const CORRELATION_ID: &str = "Wan-Correlation-Id";
/// The command or event that caused this command.
pub const CAUSATION_ID: &str = "Wan-Causation-Id";
/// The generation the sender saw; another one refuses the command.
pub const EXPECTED_GENERATION: &str = "Wan-Expected-Generation";
/// The version of the vendor's settings that the body speaks, for example `v1`; the stored version when it is not given.
pub const SCHEMA: &str = "Wan-Schema";
/// `true`: answer what would follow and write nothing.
pub const DRY_RUN: &str = "Wan-Dry-Run";
/// `true`, beside [`DRY_RUN`]: answer what Terraform would do as well.
pub const PLAN: &str = "Wan-Plan";
/// In messages of a history: the object the command was about, as `site/oslo-01`.
pub const OBJECT: &str = "Wan-Object";
/// In messages of a history: the verb of the command.
pub const VERB: &str = "Wan-Verb";
/// In messages of a history: the generation of the command's object afterwards, where it has one.
pub const GENERATION: &str = "Wan-Generation";
/// Why a message is in the dead-letter stream: the reason's code.
pub const DEAD_REASON: &str = "Wan-Dead-Reason";
/// Why a message is in the dead-letter stream, in a sentence.
pub const DEAD_MESSAGE: &str = "Wan-Dead-Message";
/// The subject a dead letter was published on.
pub const DEAD_SUBJECT: &str = "Wan-Dead-Subject";
/// How many bytes the body of a dead letter had; the dead letter may hold fewer.
pub const DEAD_SIZE: &str = "Wan-Dead-Size";
/// The digest of the body of a dead letter before it was cut, without what was left out.
pub const DEAD_DIGEST: &str = "Wan-Dead-Sha256";
/// What was left out of the body of a dead letter because it is personal.
pub const DEAD_LEFT_OUT: &str = "Wan-Dead-Left-Out";
/// The order that a dead letter is about. In a row of the table of orders that is done: the order that lies among the
/// dead letters, which is not issued again until somebody says so.
pub const DEAD_ORDER: &str = "Wan-Dead-Order";
/// The row of the table of orders that a dead letter was taken from.
pub const DEAD_ROW: &str = "Wan-Dead-Row";
/// In the table of orders: the newest generation of the target that an order before this one brought or tried.
pub const AFTER_GENERATION: &str = "Wan-After-Generation";
/// In the table of orders: the sequence of the newest version of the row whose run has ended, and was reported. Whoever
/// writes the row takes it along: it tells a try that ended from one that died.
pub const ENDED_ROW: &str = "Wan-Ended-Row";
/// The sentence of a refusal, as NATS services carry it.
pub const SERVICE_ERROR: &str = "Nats-Service-Error";
/// The number of a refusal, as NATS services carry it.
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
/// The id by which the server recognises a repeat; a command's id where it has no other.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// The trace a message belongs to (W3C Trace Context).
pub const TRACE_PARENT: &str = "traceparent";
/// What tracing systems add to the trace (W3C Trace Context).
pub const TRACE_STATE: &str = "tracestate";
