//! The claims sweeper: frees claims to serial numbers that no device has.
//!
//! A claim stays behind when a process dies between the claim and the append of the device, or between the append of the
//! device's removal and the release, or when somebody claimed again in between. The sweeper walks all claims, slowly, and asks the customers that hold old ones, by
//! command, whether they still want them. Only what the customer abandons is freed.
//!
//! # Why no device loses its claim
//!
//! A create loads the history up to N, decides, claims, and appends at N. Suppose that a claim with the revision R is
//! freed and a device of that name and serial number is, or comes to be, in the history. The sweeper read R; then the
//! customer decided at the head M of its history that it has no such device and appended `CustomerClaimAbandoned` at
//! M; then R was deleted.
//!
//! - A create that appended before that was decided on is in the history at M: it would have been confirmed.
//! - A create that loaded its history before the abandonment was appended cannot append any more: its N is not the
//!   last sequence, and the server refuses it, however long it waited and whichever process it is in. It decides again.
//! - A create that loaded its history after the abandonment was appended claims after that. Claiming again is a write,
//!   so either its claim came before the delete, which then finds another revision than R and frees nothing; or it came
//!   after, and claimed a free name.
//!
//! So nothing depends on how old the claim is: the grace period only spares customers from being asked about creates that
//! are under way. Nor on who sweeps: the lease keeps two from doing the same work, and two would do no harm.
//!
//! # A claim that is lost all the same
//!
//! The bucket may lose what it said it kept. So whoever is asked about claims gets those back that its devices should have
//! and that nobody has. A device that is removed at that very moment leaves a claim that nobody wants, about which a later
//! sweep asks. A claim that somebody else has by now is left to him and reported as an error: a person has to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::HeaderMap;
use cqrs_es::{AggregateError, EventStore};
use futures::TryStreamExt;
use futures::future::{FutureExt, join_all};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use wanwright_nats::claim::Claims;
use wanwright_nats::topology::CLAIMS;
use wanwright_nats::{Leases, Nats, NatsError};
use wanwright_schemas::event::Event;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::outcome::{Outcome, Verdict};
use wanwright_schemas::policy::{ConfirmClaimsBody, CustomerChange, MAX_CLAIMS, SerialClaim};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{ObjectRef, headers, subjects};

use super::serials::{self, Restored, Seen};
use super::store::{CustomerStore, Loaded};
use crate::decide::SWEEPER;

/// The lease of whoever sweeps.
const LEASE: &str = "sweeper.claims";

/// How much memory the states of customers may take while their claims are swept, in bytes: none is needed twice.
const CACHE_BYTES: u64 = 1 << 20;

/// How often a customer is loaded that the server does not give the whole history of.
const TRIES: u32 = 3;

/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// How slowly the claims are swept.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long after the start the first sweep begins.
    pub first: Duration,
    /// The pause between two sweeps.
    pub between: Duration,
    /// The pause between two pages of claims.
    pub page: Duration,
    /// How old a claim is before its customer is asked.
    pub grace: SignedDuration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5 * 60),
            between: Duration::from_secs(60 * 60),
            page: Duration::from_secs(1),
            grace: SignedDuration::from_mins(15),
        }
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many claims there were.
    pub seen: u64,
    /// How many of them were old enough to ask about.
    pub asked: u64,
    /// How many were freed.
    pub freed: u64,
    /// How many were lost and are their devices' again.
    pub restored: u64,
    /// How many devices have a serial number that somebody else has claimed.
    pub conflicts: u64,
}

/// Sweeps until told to stop.
pub async fn run(nats: Nats, claims: Claims, pace: Pace, stop: CancellationToken) -> &'static str {
    let mut pause = pace.first;
    loop {
        tokio::select! {
            () = stop.cancelled() => return "the claims sweeper",
            () = tokio::time::sleep(pause) => {}
        }
        pause = pace.between;
        let swept = tokio::select! {
            () = stop.cancelled() => return "the claims sweeper",
            swept = leased(&nats, &claims, pace) => swept,
        };
        match swept {
            Ok(Some(swept)) => tracing::info!(?swept, "the claims were swept"),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a sweep of the claims did not finish"
                );
            }
        }
    }
}

/// Sweeps once, unless somebody else does.
async fn leased(nats: &Nats, claims: &Claims, pace: Pace) -> Result<Option<Swept>, NatsError> {
    let leases = Leases::open(nats, "commands").await?;
    let Some(lease) = leases.take(LEASE).await? else { return Ok(None) };
    let swept = tokio::select! {
        swept = sweep(nats, claims, pace) => swept,
        () = lease.lost() => return Ok(None),
    };
    lease.release().await?;
    swept.map(Some)
}

/// Walks all claims once.
///
/// # Errors
/// [`NatsError`] when NATS or every command service is away; what was not seen is seen by the next sweep.
pub async fn sweep(nats: &Nats, claims: &Claims, pace: Pace) -> Result<Swept, NatsError> {
    let mut swept = Swept::default();
    let store = CustomerStore::alone(nats.clone(), CACHE_BYTES);
    let mut looked_at = BTreeSet::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let (page, next) = claims.page(from).await?;
        swept.seen += page.len() as u64;
        let oldest = Timestamp::now() - pace.grace;
        let mut asked: BTreeMap<CustomerId, Vec<Seen>> = BTreeMap::new();
        for held in page.into_iter().filter(|held| held.time <= oldest) {
            match serials::claimed(&held) {
                Some((customer, seen)) => asked.entry(customer).or_default().push(seen),
                None => {
                    tracing::warn!(name = held.name, "a claim that nobody can be asked about is left alone")
                }
            }
        }
        for (customer, of_customer) in asked {
            swept.asked += of_customer.len() as u64;
            for some in of_customer.chunks(MAX_CLAIMS) {
                swept.freed += confirm(nats, claims, &customer, some).await?;
            }
            // Once a sweep, however many pages its claims are on.
            if looked_at.insert(customer.clone()) {
                restore(&store, claims, &customer, &mut swept).await?;
            }
        }
        after = next;
        if after.is_some() {
            tokio::time::sleep(pace.page).await;
        }
    }
    Ok(swept)
}

/// What a look at the claims of all devices found.
#[derive(Debug, Default)]
pub(super) struct OfAll {
    /// The names of claims that somebody else has than the device, or that cannot be read.
    pub(super) taken: Vec<String>,
    /// Whether customers were left out, because their histories are damaged.
    pub(super) is_partial: bool,
}

/// Claims again what the devices of all customers should have and nobody has.
///
/// # Errors
/// [`NatsError`], when NATS is away; then some may still be nobody's.
pub(super) async fn restore_all(nats: &Nats, claims: &Claims) -> Result<OfAll, NatsError> {
    let store = CustomerStore::alone(nats.clone(), CACHE_BYTES);
    let (mut swept, mut all, mut given_back) = (Swept::default(), OfAll::default(), Vec::new());
    for partition in 0..nats.partitions {
        for customer in customers(nats, partition).await? {
            let Some(restored) = restore(&store, claims, &customer, &mut swept).await? else {
                all.is_partial = true;
                continue;
            };
            given_back.extend(restored.again.into_iter().map(|claim| (customer.clone(), claim)));
            all.taken.extend(restored.taken);
        }
    }
    // A server with a damaged file acknowledges what it cannot read again, as if nobody had claimed it.
    for (customer, SerialClaim { device, serial }) in &given_back {
        if !serials::is_claimed(claims, customer, device, serial).await? {
            let what = format!(
                "{serial} of {customer}/{device} was claimed again and is not there: the files of the stream KV_{CLAIMS} are \
                 damaged. Delete that stream and make it again with `wanwright nats apply`; claims come back by themselves"
            );
            return Err(NatsError::failed("giving claims back")(what));
        }
    }
    let is_partial = all.is_partial;
    tracing::error!(?swept, is_partial, "claims were lost; the devices that are there have theirs again");
    Ok(all)
}

/// Whose histories are in a partition.
async fn customers(nats: &Nats, partition: u16) -> Result<Vec<CustomerId>, NatsError> {
    let doing = || format!("asking whose histories are in partition {partition}");
    let stream = nats.js.get_stream_no_info(subjects::events_stream(partition)).await;
    let stream = stream.map_err(NatsError::failed(doing()))?;
    let found = stream.info_with_subjects(subjects::events_of_partition(partition)).await;
    let mut found = found.map_err(NatsError::failed(doing()))?;
    let mut customers = Vec::new();
    while let Some((subject, _)) = found.try_next().await.map_err(NatsError::failed(doing()))? {
        if subjects::is_current(&subject, nats.partitions) {
            customers.extend(subjects::customer_of_events(&subject));
        }
    }
    Ok(customers)
}

/// How many claims of a customer are looked at at once.
const AT_ONCE: usize = 32;

/// What became of the claims of a customer's devices, but for those that were there.
#[derive(Debug, Default)]
struct OfCustomer {
    /// They were nobody's.
    again: Vec<SerialClaim>,
    /// As [`OfAll::taken`].
    taken: Vec<String>,
}

/// Claims again what the devices of a customer should have and nobody has. None where its history is damaged, which nothing is
/// decided on either.
async fn restore(
    store: &CustomerStore,
    claims: &Claims,
    customer: &CustomerId,
    swept: &mut Swept,
) -> Result<Option<OfCustomer>, NatsError> {
    let Some(loaded) = load(store, customer).await? else { return Ok(None) };
    let mut restored = OfCustomer::default();
    let devices: Vec<_> = loaded.head.state.devices.iter().collect();
    for some in devices.chunks(AT_ONCE) {
        let looks = some
            .iter()
            .map(|(device, object)| serials::restore(claims, customer, device, &object.spec.serial).boxed());
        let looks: Vec<_> = looks.collect();
        for ((device, object), found) in some.iter().zip(join_all(looks).await) {
            let serial = &object.spec.serial;
            match found {
                Ok(Restored::WasThere) => {}
                Ok(Restored::Again) => {
                    tracing::error!(%customer, %device, serial, "a claim was lost; the device has it again");
                    swept.restored += 1;
                    restored.again.push(SerialClaim { device: (*device).clone(), serial: serial.clone() });
                }
                Ok(Restored::Conflict) => {
                    tracing::error!(%customer, %device, serial, "somebody else has claimed the serial number of a device");
                    swept.conflicts += 1;
                    restored.taken.push(serials::name(serial));
                }
                // Nobody else can claim it either.
                Err(error @ NatsError::Malformed { .. }) => {
                    let error = wanwright_nats::chain(&error);
                    tracing::error!(%customer, %device, serial, error, "the claim of a device cannot be read");
                    swept.conflicts += 1;
                    restored.taken.push(serials::name(serial));
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Some(restored))
}

/// A customer; none where its history is damaged.
///
/// # Errors
/// [`NatsError`], when NATS does not give the whole history though nothing is wrong with what it gives.
async fn load(store: &CustomerStore, customer: &CustomerId) -> Result<Option<Loaded>, NatsError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.load_aggregate(customer.as_str()).await {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(AggregateError::DeserializationError(error)) => {
                tracing::error!(%customer, error = error.as_ref() as &dyn std::error::Error,
                    "whether a customer's devices have their claims cannot be told: its history is damaged");
                return Ok(None);
            }
            Err(_) if tries < TRIES => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                let doing = format!("loading {customer}, to look after the claims of its devices");
                return Err(NatsError::failed(doing)(error.to_string()));
            }
        }
    }
}

/// Asks a customer about claims and frees those that it abandons. Answers how many.
pub(super) async fn confirm(
    nats: &Nats,
    claims: &Claims,
    customer: &CustomerId,
    seen: &[Seen],
) -> Result<u64, NatsError> {
    // Nearly all claims are wanted, and a dry run writes nothing: neither an event nor an outcome.
    let all = seen.iter().map(|seen| seen.claim.clone()).collect();
    let would_go = would_abandon(ask(nats, customer, all, true).await?);
    let mut freed = 0;
    for seen in seen.iter().filter(|seen| would_go.contains(&seen.claim)) {
        let claim = &seen.claim;
        // It may have been given back, or claimed again, behind what was seen.
        if !serials::is_newest(claims, customer, seen).await? {
            continue;
        }
        // One by one, so that the outcome says about which claim it is.
        if is_recorded(&ask(nats, customer, vec![claim.clone()], false).await?) {
            let is_free = serials::free(claims, seen).await?;
            tracing::info!(%customer, device = %claim.device, serial = claim.serial, is_free, "a claim was abandoned");
            freed += u64::from(is_free);
        }
    }
    Ok(freed)
}

async fn ask(
    nats: &Nats,
    customer: &CustomerId,
    claims: Vec<SerialClaim>,
    dry_run: bool,
) -> Result<Outcome, NatsError> {
    let doing = format!("asking {customer} about its claims");
    let actor = SWEEPER.parse().map_err(NatsError::failed(doing.clone()))?;
    let object = ObjectRef::Customer(customer.clone());
    let verb = "confirm-claims".to_owned();
    let subject = CommandSubject { customer: customer.clone(), actor, object, verb };
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
    if dry_run {
        head.insert(headers::DRY_RUN, "true");
    }
    let body = serde_json::to_vec(&ConfirmClaimsBody { claims }).map_err(NatsError::failed(doing.clone()))?;
    let answer = nats.client.request_with_headers(subject.request(), head, body.into()).await;
    let answer = answer.map_err(NatsError::failed(doing.clone()))?;
    let outcome: Outcome =
        serde_json::from_slice(&answer.payload).map_err(NatsError::failed(doing.clone()))?;
    if let Some(refusal) = outcome.refusal() {
        // A customer whose history is damaged keeps its claims.
        tracing::warn!(%customer, %refusal, "a customer could not be asked about its claims");
    }
    Ok(outcome)
}

/// The claims that a dry run says would be abandoned.
fn would_abandon(outcome: Outcome) -> Vec<SerialClaim> {
    let Verdict::Accepted { would_follow, .. } = outcome.verdict else { return Vec::new() };
    let abandoned = would_follow.into_iter().flatten().filter_map(|event| match event {
        Event::Customer(_, CustomerChange::ClaimAbandoned { device, serial, .. }) => {
            Some(SerialClaim { device, serial })
        }
        _ => None,
    });
    abandoned.collect()
}

/// Whether the abandonment is in the history: an outcome without a position recorded nothing.
fn is_recorded(outcome: &Outcome) -> bool {
    outcome.position().is_some()
}
