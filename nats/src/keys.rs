//! The keys of personal data: one per customer, in a stream, wrapped by a master key that is in a file.
//!
//! A key is destroyed by overwriting it on the disk, which only the deleting of a message does: a purge, a newer message
//! and a bucket's `delete` leave the bytes where they are. So a key is never replaced under its subject, and every wrapping
//! has a subject of its own.

mod cipher;
mod master;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use wanwright_schemas::contact::KeyId;
use wanwright_schemas::{CustomerId, subjects};

pub use cipher::{DataKey, Place};
use master::MasterKeys;
pub use state::{StateKeys, StatePlace, state_key_file};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::publish::{CheckedError, publish, publish_expecting};
use crate::topology::KEYS;

/// What can go wrong with keys. No variant ever holds a key or a text.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// NATS did not do its part.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// There are keys, and nothing to open them with.
    #[error(
        "key {key} is wrapped by a master key, but there is no file {}; put it back, or name it with \
         WANWRIGHT_MASTER_KEY_FILE",
        path.display()
    )]
    NoMaster {
        /// One of the keys.
        key: KeyId,
        /// Where the file should be.
        path: PathBuf,
    },
    /// The file has other master keys.
    #[error("key {key} is wrapped by master key {master}, which {} does not have", path.display())]
    OtherMaster {
        /// The key.
        key: KeyId,
        /// The id of its master key.
        master: String,
        /// The file.
        path: PathBuf,
    },
    /// The file has a master key of that id that does not open the key.
    #[error(
        "master key {master} in {} does not open key {key}: one of them is not what it was",
        path.display()
    )]
    WrongMaster {
        /// The key.
        key: KeyId,
        /// The id of its master key.
        master: String,
        /// The file.
        path: PathBuf,
    },
    /// The key is not there, and no event says that it was destroyed.
    #[error("key {key} of customer {customer} is gone from KEYS, and no event says why")]
    Gone {
        /// Whose key it is.
        customer: CustomerId,
        /// The key.
        key: KeyId,
    },
    /// The text was sealed for another place, or changed since.
    #[error("a text sealed by key {key} does not open here: it belongs to another place, or was changed")]
    NotItsPlace {
        /// The key that the text names.
        key: KeyId,
    },
    /// The file cannot be read or written.
    #[error("the master key file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not one of master keys.
    #[error("the master key file {}: {why}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A Terraform state is sealed with a key that the file does not have, or there is no file.
    #[error(
        "a Terraform state is sealed with key {key}, which {} does not have; put the key back, or name its file with \
         WANWRIGHT_STATE_KEY_FILE",
        path.display()
    )]
    UnknownStateKey {
        /// The id of the key.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// A Terraform state was sealed as another version or for another stack, or changed since.
    #[error("version {serial} of stack {stack} does not open: it is not what wanwright wrote there")]
    StateChanged {
        /// The stack.
        stack: String,
        /// The serial of the version.
        serial: i64,
    },
    /// The machine has no random numbers.
    #[error("no random numbers could be had")]
    NoRandomness,
}

impl KeyError {
    /// Whether this is about what is stored of one customer, and trying again does not change it. Whatever else goes wrong
    /// is the server's or the file's, and passes when that is put right.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::OtherMaster { .. }
            | Self::WrongMaster { .. }
            | Self::Gone { .. }
            | Self::NotItsPlace { .. } => true,
            Self::Nats(error) => matches!(error, NatsError::Malformed { .. }),
            Self::StateChanged { .. } => true,
            Self::NoMaster { .. }
            | Self::File { .. }
            | Self::BadFile { .. }
            | Self::UnknownStateKey { .. }
            | Self::NoRandomness => false,
        }
    }
}

/// How many keys are read at once when all of them are.
const AT_ONCE: usize = 16;

/// How often the wrappings of a key are listed while a rotation of master keys replaces them.
const LOOKS: usize = 3;

/// Which key a customer's personal data is sealed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Current {
    /// The key; none when there never was one. It may be destroyed.
    pub key: Option<KeyId>,
    /// Where that is written, for [`Keys::store`].
    pub sequence: u64,
}

/// How many keys were wrapped anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rotated {
    /// How many.
    pub keys: usize,
    /// The id of the new master key.
    pub master: String,
}

/// The keys of all customers.
#[derive(Debug, Clone)]
pub struct Keys {
    nats: Nats,
    path: PathBuf,
}

impl Keys {
    /// The keys on this server, wrapped by the master keys in this file. Nothing is read yet.
    pub fn new(nats: Nats, master_key_file: impl Into<PathBuf>) -> Self {
        Self { nats, path: master_key_file.into() }
    }

    /// Looks whether the file has every master key that wraps any key, each of which has to open at least one of its
    /// keys. Makes the file where there is neither a file nor a key.
    ///
    /// Not every key is opened: that takes as long as there are customers. A key that cannot be opened while another one
    /// can is its customer's trouble, which is refused by name, and no reason to serve nobody.
    ///
    /// # Errors
    /// [`KeyError`], naming a key whose master key is missing or is not what it was.
    pub async fn check(&self) -> Result<(), KeyError> {
        let wrapped = self.wrapped(subjects::KEY_WRAPPED_ALL).await?;
        let masters = match (MasterKeys::read(&self.path)?, wrapped.first()) {
            (Some(masters), _) => masters,
            (None, Some(first)) => {
                return Err(KeyError::NoMaster { key: first.key, path: self.path.clone() });
            }
            (None, None) => return MasterKeys::make(&self.path).map(drop),
        };
        let mut unproven: BTreeMap<&str, Option<KeyError>> = BTreeMap::new();
        let mut proven = BTreeSet::new();
        for wrapped in wrapped.iter() {
            let master = wrapped.master.as_str();
            if proven.contains(master) {
                continue;
            }
            match self.open(&masters, wrapped).await {
                Ok(Some(_)) => {
                    unproven.remove(master);
                    proven.insert(master);
                }
                // Destroyed since it was listed.
                Ok(None) => {}
                Err(error @ KeyError::WrongMaster { .. }) => {
                    unproven.entry(master).or_default().get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        unproven.into_values().flatten().next().map_or(Ok(()), Err)
    }

    /// Refuses to go on without a master key when there are keys.
    ///
    /// # Errors
    /// [`KeyError::NoMaster`], naming one of them.
    pub async fn none_without(nats: &Nats) -> Result<(), KeyError> {
        let keys = Self::new(nats.clone(), "");
        match keys.wrapped(subjects::KEY_WRAPPED_ALL).await?.first() {
            Some(first) => Err(KeyError::NoMaster { key: first.key, path: keys.path }),
            None => Ok(()),
        }
    }

    /// Which key a customer's personal data is sealed with.
    ///
    /// # Errors
    /// [`KeyError::Nats`].
    pub async fn current(&self, customer: &CustomerId) -> Result<Current, KeyError> {
        let found = self.last(&subjects::current_key(customer)).await?;
        let Some((sequence, payload)) = found else { return Ok(Current::default()) };
        let key = key_of(customer, &payload)?;
        Ok(Current { key: Some(key), sequence })
    }

    /// A key of a customer; none when it is destroyed.
    ///
    /// # Errors
    /// [`KeyError`], when the key is there and cannot be opened.
    pub async fn get(&self, customer: &CustomerId, key: KeyId) -> Result<Option<DataKey>, KeyError> {
        let mut looks = 1;
        loop {
            let all = self.wrapped(&subjects::wrapped_key(customer, key, "*")).await?;
            let Some(first) = all.first() else { return Ok(None) };
            let Some(masters) = MasterKeys::read(&self.path)? else {
                return Err(KeyError::NoMaster { key, path: self.path.clone() });
            };
            // While master keys are rotated there are two, and the other one may be gone by now.
            let known = all.iter().find(|wrapped| masters.ids().any(|id| id == wrapped.master));
            match self.open(&masters, known.unwrap_or(first)).await {
                // A rotation may have ended since the wrappings were listed: then there is a newer one. Whoever gets this
                // error believes that it lasts.
                Err(KeyError::OtherMaster { .. }) if looks < LOOKS => looks += 1,
                opened => return opened,
            }
        }
    }

    async fn open(&self, masters: &MasterKeys, wrapped: &Wrapped) -> Result<Option<DataKey>, KeyError> {
        let Wrapped { customer, key, master } = wrapped;
        match self.last(&subjects::wrapped_key(customer, *key, master)).await? {
            Some((_, payload)) => masters.unwrap(customer, *key, master, &payload).map(Some),
            None => Ok(None),
        }
    }

    /// How many customers have, or had, a key.
    ///
    /// # Errors
    /// [`KeyError::Nats`].
    pub async fn customers(&self) -> Result<usize, KeyError> {
        Ok(self.subjects(subjects::KEY_CURRENT_ALL).await?.len())
    }

    /// The customers whose present key cannot be read: it is destroyed, or lost. No key where not even that can be read
    /// which one it is. Reads all of them.
    ///
    /// # Errors
    /// [`KeyError::Nats`].
    pub async fn unreadable(&self) -> Result<Vec<(CustomerId, Option<KeyId>)>, KeyError> {
        let customers = self.subjects(subjects::KEY_CURRENT_ALL).await?;
        let customers: Vec<CustomerId> =
            customers.iter().filter_map(|subject| subjects::customer_of_current(subject)).collect();
        let look = async |customer: CustomerId| {
            let key = self.current(&customer).await?.key;
            let is_there = match key {
                Some(key) => self.is_stored(&customer, key).await?,
                None => false,
            };
            Ok::<_, KeyError>((!is_there).then_some((customer, key)))
        };
        let looked: Vec<_> = customers.into_iter().map(|customer| look(customer).boxed()).collect();
        let looked: Vec<_> = futures::stream::iter(looked).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(looked.into_iter().flatten().collect())
    }

    /// Whether a wrapping of a key can be read.
    async fn is_stored(&self, customer: &CustomerId, key: KeyId) -> Result<bool, KeyError> {
        // A rotation of master keys may replace what was just listed.
        for _ in 0..LOOKS {
            for wrapped in self.wrapped(&subjects::wrapped_key(customer, key, "*")).await? {
                if self.last(&subjects::wrapped_key(customer, key, &wrapped.master)).await?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Keeps a new key of a customer, instead of the one that was read. Answers whether it is the customer's now:
    /// somebody else may have been faster.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn store(
        &self,
        customer: &CustomerId,
        key: &DataKey,
        instead: Current,
    ) -> Result<bool, KeyError> {
        loop {
            let Some(masters) = MasterKeys::read(&self.path)? else {
                return Err(KeyError::NoMaster { key: key.id(), path: self.path.clone() });
            };
            let subject = subjects::wrapped_key(customer, key.id(), masters.newest());
            let wrapped = masters.wrap(customer, key)?;
            publish(&self.nats.js, subject, HeaderMap::new(), wrapped.into()).await?;
            // A rotation that began before this was stored may not have seen it. It forgets a master key only after it
            // has written the next one, so whoever still reads the same one will be seen.
            let read = MasterKeys::read(&self.path)?;
            if read.is_some_and(|read| read.newest() == masters.newest()) {
                break;
            }
            self.destroy(customer, key.id()).await?;
        }
        let subject = subjects::current_key(customer);
        let payload = Bytes::from(key.id().to_string());
        match publish_expecting(&self.nats.js, subject, instead.sequence, HeaderMap::new(), payload).await {
            Ok(_) => Ok(true),
            Err(CheckedError::Conflict) => {
                self.destroy(customer, key.id()).await?;
                Ok(false)
            }
            Err(CheckedError::Failed(error)) => Err(error.into()),
        }
    }

    /// Destroys a key: every wrapping of it is overwritten on the disk. Nothing happens when it is destroyed already.
    ///
    /// # Errors
    /// [`KeyError::Nats`]; the key may still be there.
    pub async fn destroy(&self, customer: &CustomerId, key: KeyId) -> Result<(), KeyError> {
        loop {
            let all = self.wrapped(&subjects::wrapped_key(customer, key, "*")).await?;
            if all.is_empty() {
                return Ok(());
            }
            // A rotation may make a new wrapping while the old one goes, so it is looked again.
            for wrapped in all {
                self.erase(&subjects::wrapped_key(customer, key, &wrapped.master)).await?;
            }
        }
    }

    /// Notes that a key is about to be destroyed: whoever finds the note has to look whether it was decided.
    ///
    /// # Errors
    /// [`KeyError::Nats`].
    pub async fn note_erasing(&self, customer: &CustomerId, key: KeyId) -> Result<(), KeyError> {
        let (subject, payload) = (subjects::erasing_key(customer), Bytes::from(key.to_string()));
        publish(&self.nats.js, subject, HeaderMap::new(), payload).await?;
        Ok(())
    }

    /// The customers of whom a key was about to be destroyed.
    ///
    /// # Errors
    /// [`KeyError::Nats`].
    pub async fn erasing(&self) -> Result<Vec<CustomerId>, KeyError> {
        let noted = self.subjects(subjects::KEY_ERASING_ALL).await?;
        Ok(noted.iter().filter_map(|subject| subjects::customer_of_erasing(subject)).collect())
    }

    /// Which key of a customer was about to be destroyed; none when there is no note of it.
    ///
    /// # Errors
    /// [`KeyError::Nats`], which lasts when the note cannot be read.
    pub async fn noted(&self, customer: &CustomerId) -> Result<Option<KeyId>, KeyError> {
        match self.last(&subjects::erasing_key(customer)).await? {
            Some((_, payload)) => Ok(Some(key_of(customer, &payload)?)),
            None => Ok(None),
        }
    }

    /// Takes the note back: the key is destroyed.
    ///
    /// # Errors
    /// [`KeyError::Nats`].
    pub async fn erased(&self, customer: &CustomerId) -> Result<(), KeyError> {
        self.erase(&subjects::erasing_key(customer)).await.map(drop)
    }

    /// Makes a new master key, wraps every key with it and forgets the older master keys. Killed in between it is begun
    /// again; no key is without a master key at any time.
    ///
    /// # Errors
    /// [`KeyError`]; then the older master keys are still in the file.
    pub async fn rotate(&self) -> Result<Rotated, KeyError> {
        self.check().await?;
        let Some(mut masters) = MasterKeys::read(&self.path)? else {
            return Err(KeyError::File {
                path: self.path.clone(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        masters.add()?;
        let newest = masters.newest().to_owned();
        let mut keys = 0;
        loop {
            let wrapped = self.wrapped(subjects::KEY_WRAPPED_ALL).await?;
            let older: Vec<Wrapped> = wrapped.into_iter().filter(|key| key.master != newest).collect();
            if older.is_empty() {
                masters.forget_older()?;
                return Ok(Rotated { keys, master: newest });
            }
            for old in older {
                keys += usize::from(self.rewrap(&masters, &old).await?);
            }
        }
    }

    async fn rewrap(&self, masters: &MasterKeys, old: &Wrapped) -> Result<bool, KeyError> {
        let opened = self.open(masters, old).await?;
        let subject = subjects::wrapped_key(&old.customer, old.key, masters.newest());
        if let Some(key) = &opened {
            let wrapped = masters.wrap(&old.customer, key)?;
            publish(&self.nats.js, subject.clone(), HeaderMap::new(), wrapped.into()).await?;
            let is_there = self.erase(&subjects::wrapped_key(&old.customer, old.key, &old.master)).await?;
            // Whoever destroyed the key meanwhile may not have seen the new wrapping: then it goes as well.
            if !is_there {
                self.erase(&subject).await?;
                return Ok(false);
            }
        }
        Ok(opened.is_some())
    }

    /// The wrapped keys whose subjects fit.
    async fn wrapped(&self, filter: &str) -> Result<Vec<Wrapped>, KeyError> {
        let read = |subject: &String| {
            let (customer, key, master) = subjects::key_of_wrapped(subject)?;
            Some(Wrapped { customer, key, master: master.to_owned() })
        };
        Ok(self.subjects(filter).await?.iter().filter_map(read).collect())
    }

    async fn subjects(&self, filter: &str) -> Result<Vec<String>, NatsError> {
        let doing = || format!("looking for {filter}");
        let info = self.stream().await?.info_with_subjects(filter).await;
        let mut subjects = info.map_err(NatsError::failed(doing()))?;
        let mut found = Vec::new();
        while let Some((subject, _)) = subjects.try_next().await.map_err(NatsError::failed(doing()))? {
            found.push(subject);
        }
        Ok(found)
    }

    async fn stream(&self) -> Result<Stream<()>, NatsError> {
        self.nats.js.get_stream_no_info(KEYS).await.map_err(NatsError::failed("opening the keys"))
    }

    /// The message under a subject, as the leader has it: a replica may still have what is destroyed.
    async fn last(&self, subject: &str) -> Result<Option<(u64, Bytes)>, NatsError> {
        match self.stream().await?.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(NatsError::failed(format!("reading {subject}"))(error)),
        }
    }

    /// Overwrites the message under a subject. Answers whether it was there.
    async fn erase(&self, subject: &str) -> Result<bool, KeyError> {
        let Some((sequence, _)) = self.last(subject).await? else { return Ok(false) };
        Ok(erase_message(&self.stream().await?, sequence).await?)
    }
}

/// A wrapped key, by its subject.
#[derive(Debug, Clone)]
struct Wrapped {
    customer: CustomerId,
    key: KeyId,
    master: String,
}

fn key_of(customer: &CustomerId, payload: &[u8]) -> Result<KeyId, NatsError> {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    text.parse()
        .map_err(|_| NatsError::malformed(format!("reading which key {customer} has"), "it is no key's id"))
}

/// The path of the master key file in the folder of an installation.
pub fn master_key_file(home: &Path) -> PathBuf {
    home.join("keys").join("master.key")
}

/// Deletes a message so that its bytes are overwritten on the disk. Answers whether it was there.
///
/// # Errors
/// [`NatsError`]; the message may still be there.
pub async fn erase_message(stream: &Stream<()>, sequence: u64) -> Result<bool, NatsError> {
    let error = match stream.delete_message(sequence).await {
        Ok(deleted) => return Ok(deleted),
        Err(error) => error,
    };
    // The server has one code for all that can go wrong, so only a look tells whether there was nothing to delete.
    match stream.get_raw_message(sequence).await {
        Err(missing) if missing.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
        _ => Err(NatsError::failed(format!("erasing message {sequence}"))(error)),
    }
}
