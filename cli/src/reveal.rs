//! `wanwright reveal`: personal data as it was typed, for who may read the keys and the master key.

use std::collections::HashMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use wanwright_nats::accounts::Role;
use wanwright_nats::keys::{DataKey, Keys, Place, master_key_file};
use wanwright_nats::{KeyError, Nats};
use wanwright_projections::read::{self, Filter, Page};
use wanwright_schemas::contact::{Contact, ContactField, KeyId, SealedText};
use wanwright_schemas::{CustomerId, Kind, ObjectRef};

use crate::cli::{Home, MasterKey, RevealArgs, RevealFormat};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::{output, send};

/// What stands for a text whose key is destroyed.
const ERASED: &str = "erased";

impl MasterKey {
    /// The keys, wrapped by the master keys in the file that was named or is in the installation's folder.
    pub fn keys(&self, nats: Nats, home: &Home) -> Keys {
        Keys::new(nats, self.path(home))
    }

    /// The file of the master keys.
    pub fn path(&self, home: &Home) -> std::path::PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| master_key_file(&home.home))
    }
}

/// Opens contacts; each key is asked for once.
pub struct Reveal {
    keys: Keys,
    opened: HashMap<(CustomerId, KeyId), Option<DataKey>>,
}

impl Reveal {
    /// Nothing is asked for yet.
    pub fn new(keys: Keys) -> Self {
        Self { keys, opened: HashMap::new() }
    }

    async fn text(&mut self, place: &Place<'_>, text: &SealedText) -> Result<String, KeyError> {
        let asked = (place.customer.clone(), text.key());
        let key = match self.opened.entry(asked) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(self.keys.get(place.customer, text.key()).await?)
            }
        };
        key.as_ref().map_or_else(|| Ok(ERASED.to_owned()), |key| key.open(place, text))
    }

    /// What a contact says.
    ///
    /// # Errors
    /// [`KeyError`], when a key cannot be opened, or a text does not belong here.
    pub async fn contact(
        &mut self,
        customer: &CustomerId,
        object: &ObjectRef,
        contact: &Contact,
    ) -> Result<Vec<(ContactField, String)>, KeyError> {
        let mut texts = Vec::new();
        for (field, text) in contact.fields() {
            texts.push((field, self.text(&Place { customer, object, field }, text).await?));
        }
        Ok(texts)
    }

    /// Puts what its contact says into a row of sites or devices.
    pub async fn row(&mut self, kind: Kind, row: &mut Value) -> Result<()> {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let customer: CustomerId = text("customer").parse()?;
        let object = ObjectRef::new(kind, text("id").parse()?)?;
        let sealed = row.get("contact").filter(|contact| !contact.is_null());
        let Some(sealed) = sealed else { return Ok(()) };
        let contact: Contact = serde_json::from_value(sealed.clone()).context("reading a contact")?;
        let texts = self.contact(&customer, &object, &contact).await?;
        let plain: Map<String, Value> =
            texts.into_iter().map(|(field, text)| (field.name().to_owned(), text.into())).collect();
        for place in ["/contact", "/spec/contact"] {
            if let Some(contact) = row.pointer_mut(place) {
                *contact = Value::Object(plain.clone());
            }
        }
        Ok(())
    }
}

/// Prints whom to talk to about an object.
pub async fn run(args: RevealArgs) -> Result<Exit> {
    let subject = send::subject("demo", &args.kind, "reveal", &args.object)?;
    // Before the tables are asked: whoever may not read the keys is not told whether there is one of that name.
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-reveal").await?;
    let pool = args.connection.postgres(2).await?;
    let filter = Filter {
        customer: Some(subject.customer.clone()),
        id: Some(subject.object.id().to_owned()),
        ..Filter::default()
    };
    let page = Page::default();
    let contact = match subject.object.kind() {
        Kind::Site => read::sites(&pool, &filter, &page).await?.rows.pop().map(|row| row.contact),
        Kind::Device => read::devices(&pool, &filter, &page).await?.rows.pop().map(|row| row.contact),
        kind => return Err(Usage(format!("a {kind} has no contact; sites and devices have")).into()),
    };
    let Some(contact) = contact else {
        output::note(format!("there is no {} of customer {}", subject.object, subject.customer));
        return Ok(Exit::Different);
    };
    let mut reveal = Reveal::new(args.master_key.keys(nats, &args.connection.home));
    let contact = contact.unwrap_or_default();
    let texts = reveal.contact(&subject.customer, &subject.object, &contact).await?;
    match args.output {
        RevealFormat::Json => {
            let all = texts.into_iter().map(|(field, text)| (field.name().to_owned(), text.into()));
            output::line(Value::Object(all.collect()));
        }
        RevealFormat::Text if texts.is_empty() => output::note("no contact is named"),
        RevealFormat::Text => {
            texts.iter().for_each(|(field, text)| output::line(format!("{:<6} {text}", field.name())));
        }
    }
    Ok(Exit::Done)
}
