//! Personal data is sealed before anything is decided, and its key is destroyed after that was decided.

use bytes::Bytes;
use wanwright_nats::keys::{Current, DataKey, Keys, Place};
use wanwright_nats::{KeyError, NatsError};
use wanwright_schemas::contact::{ContactField, HasContact, KeyId};
use wanwright_schemas::envelope::{Digest, command_digest};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{CustomerId, Event};

use super::door::Asked;
use super::lane::Trouble;
use super::personal::{self, Body, Personal};
use super::store::CustomerStore;
use super::verdict;
use crate::customer::Customer;

/// The verb that destroys a key.
pub(super) const ERASE: &str = "erase";

/// What tells a command from another one with the same id, without telling what it said of people.
///
/// A plain digest of a telephone number can be guessed. The digest of an event is that of the sealed body, which is a
/// keyed one because sealing is; a repeat is sealed to the same texts as long as the key is there. A command that is
/// recorded while there is no key, because it was refused, is told by its body without the texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Says {
    /// For the envelope of its events.
    pub(super) in_events: Digest,
    /// For the verdict, where no event tells of it.
    pub(super) in_verdict: Digest,
    stripped: Digest,
}

impl Says {
    fn plainly(digest: Digest) -> Self {
        Self { in_events: digest, in_verdict: digest, stripped: digest }
    }

    /// Whether a command that was recorded with this digest said the same.
    pub(super) fn is(&self, recorded: Digest) -> bool {
        recorded == self.in_events || recorded == self.stripped
    }
}

/// A key that a customer does not have yet: it is kept only if something is recorded that it sealed.
#[derive(Debug)]
pub(super) struct NewKey {
    key: DataKey,
    instead: Current,
}

/// A command with nothing personal in it.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The body, or why it is refused.
    pub(super) body: Result<Bytes, Refusal>,
    /// What tells it from others.
    pub(super) says: Says,
    /// The key that sealed it, if the customer does not have it yet.
    pub(super) new_key: Option<NewKey>,
    /// The customer's key, for a command that is about it.
    pub(super) about: Option<KeyId>,
}

/// Seals commands and destroys keys.
#[derive(Debug, Clone)]
pub(super) struct Sealing {
    keys: Option<Keys>,
}

impl From<KeyError> for Trouble {
    fn from(error: KeyError) -> Self {
        // To try it again would hold up every other customer of the lane, and change nothing.
        if error.is_lasting() { Self::Unreadable(error.into()) } else { Self::Nats(error.into()) }
    }
}

/// The answer where a customer's key cannot be opened. It is not recorded: under the same id the command is decided once
/// the key is there again. What exactly is wrong names places of this installation, and is in the log.
pub(super) fn unreadable(asked: &Asked) -> Outcome {
    let message = format!("the key of customer {}'s personal data cannot be opened", asked.subject.customer);
    verdict::refused(asked, Refusal::new(Reason::KeyUnreadable, message))
}

impl Sealing {
    /// Without keys nothing personal is taken.
    pub(super) fn new(keys: Option<Keys>) -> Self {
        Self { keys }
    }

    /// Seals what is personal in a command for the customer that it is decided on.
    ///
    /// # Errors
    /// [`Trouble`], when the keys cannot be asked or opened.
    pub(super) async fn seal(&self, asked: &Asked, state: &Customer) -> Result<Sealed, Trouble> {
        let subject = &asked.subject;
        let digest = |body: &[u8]| command_digest(&subject.object.to_string(), &subject.verb, body);
        let plain = |body| Sealed { body, says: Says::plainly(asked.digest()), new_key: None, about: None };
        match personal::take_out(&subject.object, &subject.verb, &asked.body) {
            Body::Plain if subject.verb == ERASE => {
                let about = self.about(asked, state).await?;
                Ok(Sealed { about, ..plain(Ok(asked.body.clone())) })
            }
            Body::Plain => Ok(plain(Ok(asked.body.clone()))),
            Body::Refused(refusal) => {
                // Another body that is refused with the same words is answered with the same words: the digest of what
                // is said is enough to tell them apart, and is no digest of what was not taken.
                let says = Says::plainly(digest(refusal.to_string().as_bytes()));
                Ok(Sealed { body: Err(refusal), says, new_key: None, about: None })
            }
            Body::Personal(personal) => {
                let stripped = digest(&personal.stripped());
                let Some(keys) = &self.keys else {
                    let refusal = Refusal::new(Reason::ContactNotKept, Reason::ContactNotKept.sentence());
                    let body = Err(refusal.field("contact"));
                    return Ok(Sealed { body, says: Says::plainly(stripped), new_key: None, about: None });
                };
                let (key, instead) = key(keys, &subject.customer, state, asked.headers.dry_run).await?;
                let body = sealed(&personal, asked, &key)?;
                let in_events = digest(&body);
                let in_verdict = if instead.is_some() { stripped } else { in_events };
                let says = Says { in_events, in_verdict, stripped };
                let new_key = instead.map(|instead| NewKey { key, instead });
                Ok(Sealed { body: Ok(body), says, new_key, about: None })
            }
        }
    }

    /// The customer's key, for a command that ends it. One whose end was recorded and that is there all the same is
    /// destroyed here: so whoever sends `erase` again knows that it is done.
    async fn about(&self, asked: &Asked, state: &Customer) -> Result<Option<KeyId>, Trouble> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let customer = &asked.subject.customer;
        // Where that is lost, what it sealed still tells which one it was.
        let key = keys.current(customer).await?.key.or_else(|| in_use(state));
        if let Some(key) = key.filter(|key| !asked.headers.dry_run && state.erased.contains(key)) {
            keys.destroy(customer, key).await?;
            keys.erased(customer).await?;
        }
        Ok(key)
    }

    /// Gets ready to record events: keeps the key that sealed them, and notes that they end a key.
    ///
    /// # Errors
    /// [`Trouble::Conflict`], when somebody else gave the customer a key meanwhile.
    pub(super) async fn prepare(
        &self,
        customer: &CustomerId,
        events: &[Event],
        new_key: Option<&NewKey>,
    ) -> Result<(), Trouble> {
        let Some(keys) = &self.keys else { return Ok(()) };
        if let Some(new) = new_key
            && !keys.store(customer, &new.key, new.instead).await?
        {
            return Err(Trouble::Conflict);
        }
        for key in ended(events) {
            keys.note_erasing(customer, key).await?;
        }
        Ok(())
    }

    /// Destroys the keys whose end these events say. Done again it changes nothing.
    ///
    /// # Errors
    /// [`Trouble`]: a key may still be there, and the note of it as well.
    pub(super) async fn follow(&self, customer: &CustomerId, events: &[Event]) -> Result<(), Trouble> {
        let Some(keys) = &self.keys else { return Ok(()) };
        for key in ended(events) {
            keys.destroy(customer, key).await?;
            keys.erased(customer).await?;
        }
        Ok(())
    }

    /// Destroys the keys of a partition whose end was recorded by somebody who did not come as far as to destroy them.
    /// What cannot be done for one customer is said in the log and holds up nobody else; it is done when the customer is
    /// told to `erase` again, or by the next one who takes the partition.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked whose keys these are.
    pub(super) async fn finish(
        &self,
        store: &CustomerStore,
        is_own: impl Fn(&CustomerId) -> bool,
    ) -> Result<(), NatsError> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let erasing = keys.erasing().await.map_err(NatsError::failed("finishing erasures"))?;
        for customer in erasing.into_iter().filter(|customer| is_own(customer)) {
            if let Err(error) = finish_one(keys, store, &customer).await {
                let error = wanwright_nats::chain(error.as_ref());
                tracing::error!(%customer, error, "an erasure is not finished; send `erase` for the customer again");
            }
        }
        Ok(())
    }
}

/// Destroys the key of one customer, if its end was recorded.
async fn finish_one(
    keys: &Keys,
    store: &CustomerStore,
    customer: &CustomerId,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    use cqrs_es::EventStore;
    let Some(key) = keys.noted(customer).await? else { return Ok(()) };
    let loaded = store.load_aggregate(customer.as_str()).await?;
    let is_decided = loaded.head.state.erased.contains(&key);
    store.keep(loaded);
    // Where it was not decided, whoever noted it may still be about to: the note stays.
    if is_decided {
        keys.destroy(customer, key).await?;
        keys.erased(customer).await?;
        tracing::info!(%customer, %key, "an erasure was finished that somebody else began");
    }
    Ok(())
}

/// The keys whose end events say.
fn ended(events: &[Event]) -> impl Iterator<Item = KeyId> + '_ {
    events.iter().filter_map(|event| match event {
        Event::Customer(_, CustomerChange::Erased { key }) => Some(*key),
        _ => None,
    })
}

/// The newest key that sealed what the customer says of people now.
fn in_use(state: &Customer) -> Option<KeyId> {
    let sites = state.sites.values().filter_map(|site| site.spec.contact());
    let devices = state.devices.values().filter_map(|device| device.spec.contact());
    let keys = sites.chain(devices).flat_map(|contact| contact.fields().map(|(_, text)| text.key()));
    keys.filter(|key| !state.erased.contains(key)).max()
}

/// The key to seal with; with what it takes the place of, if it is a new one.
async fn key(
    keys: &Keys,
    customer: &CustomerId,
    state: &Customer,
    dry_run: bool,
) -> Result<(DataKey, Option<Current>), KeyError> {
    let current = keys.current(customer).await?;
    match current.key {
        // Decided and not done: it must not seal anything any more.
        Some(key) if state.erased.contains(&key) && dry_run => {}
        Some(key) if state.erased.contains(&key) => keys.destroy(customer, key).await?,
        Some(key) => match keys.get(customer, key).await? {
            Some(key) => return Ok((key, None)),
            None => return Err(KeyError::Gone { customer: customer.clone(), key }),
        },
        None => {
            if let Some(key) = in_use(state) {
                return Err(KeyError::Gone { customer: customer.clone(), key });
            }
        }
    }
    Ok((DataKey::mint()?, Some(current)))
}

fn sealed(personal: &Personal, asked: &Asked, key: &DataKey) -> Result<Bytes, KeyError> {
    let (customer, object) = (&asked.subject.customer, &asked.subject.object);
    let seal = |(field, text): (ContactField, &str)| {
        Ok((field, key.seal(&Place { customer, object, field }, text)?.to_string()))
    };
    let texts: Vec<(ContactField, String)> = personal.texts().map(seal).collect::<Result<_, KeyError>>()?;
    Ok(personal.with(texts.into_iter()))
}
