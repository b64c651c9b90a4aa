//! What the API does: looks at the world and says what to answer and what changes. It changes nothing itself.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::reply::{Refusal, Reply};
use crate::vendor::{Kind, NAME, Target, Vendor};
use crate::world::{self, Effect, Object, Objects, World};

/// A call of the API, read completely.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The path with its query, for logs.
    pub(crate) full_path: String,
    /// `None` when the query cannot be read.
    pub(crate) query: Option<BTreeMap<String, String>>,
    pub(crate) headers: HeaderMap,
    /// `None` when the body is not JSON.
    pub(crate) body: Option<Value>,
}

/// An answer and the changes to make before it is sent.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reply: Reply,
    pub(crate) effects: Vec<Effect>,
    /// How many of them, from the first, are made already.
    pub(crate) applied: usize,
}

impl Outcome {
    fn new(reply: Reply, effect: Effect) -> Self {
        Self { reply, effects: vec![effect], applied: 0 }
    }
}

impl Request {
    /// The idempotency key, in the header this kind takes it from.
    pub(crate) fn key(&self, kind: &Kind) -> Option<&str> {
        self.headers.get(kind.idempotency_header.as_deref()?)?.to_str().ok()
    }

    /// The name a body gives.
    pub(crate) fn body_name(&self) -> Option<&str> {
        self.body.as_ref()?.get(NAME)?.as_str()
    }

    fn json(&self) -> Result<&Value, Refusal> {
        let not_json = || Refusal::new(StatusCode::BAD_REQUEST, "invalid_body", "the body is not JSON");
        self.body.as_ref().ok_or_else(not_json)
    }
}

pub(crate) fn operate(vendor: &Vendor, world: &World, request: &Request) -> Outcome {
    let Some((kind, target)) = vendor.route(&request.path) else {
        let reply = Refusal::not_found("there is no such path").reply();
        return Outcome { reply, effects: Vec::new(), applied: 0 };
    };
    let Some(objects) = world.kinds.get(&kind.name) else {
        let reply = Reply::empty(StatusCode::INTERNAL_SERVER_ERROR);
        return Outcome { reply, effects: Vec::new(), applied: 0 };
    };
    let operation = Operation { vendor, world, kind, objects, request };
    let creating = target == Target::Collection && request.method == Method::POST;
    operation.run(&target).unwrap_or_else(|refusal| {
        let name = request.body_name().filter(|_| creating).map(str::to_owned);
        let effects = name.map(|name| Effect::Refused { kind: kind.name.clone(), name });
        Outcome { reply: refusal.reply(), effects: effects.into_iter().collect(), applied: 0 }
    })
}

struct Operation<'a> {
    vendor: &'a Vendor,
    world: &'a World,
    kind: &'a Kind,
    objects: &'a Objects,
    request: &'a Request,
}

impl Operation<'_> {
    fn run(&self, target: &Target) -> Result<Outcome, Refusal> {
        let method = &self.request.method;
        match target {
            Target::Collection if method == Method::POST => self.create(),
            Target::Collection if method == Method::GET => self.list(),
            Target::Item(id) if method == Method::GET => self.read(id),
            Target::Item(id) if *method == self.kind.update => self.update(id),
            Target::Item(id) if method == Method::DELETE => self.delete(id),
            _ => {
                let message = format!("{method} is not possible here");
                Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
            }
        }
    }

    fn create(&self) -> Result<Outcome, Refusal> {
        let key = self.request.key(self.kind);
        if let Some(number) = key.and_then(|key| self.objects.keys.get(key)) {
            return self.replay(*number);
        }
        let fields = self.kind.check(self.request.json()?)?;
        self.check_unique(&fields, None)?;
        self.check_references(&fields)?;
        let number = self.objects.last + 1;
        let object = self.kind.complete(fields, number);
        let reply = Reply::object(StatusCode::CREATED, &object);
        let key = key.map(str::to_owned);
        Ok(Outcome::new(reply, Effect::Created { kind: self.kind_name(), number, object, key }))
    }

    /// The object that an idempotency key made, as it is now.
    fn replay(&self, number: u64) -> Result<Outcome, Refusal> {
        let Some(object) = self.objects.objects.get(&number) else {
            let message = "the object this idempotency key made was deleted";
            return Err(Refusal::new(StatusCode::GONE, "gone", message).id(self.kind.id(number)));
        };
        let name = world::name(object).to_owned();
        let reply = Reply::object(StatusCode::OK, object).replayed();
        Ok(Outcome::new(reply, Effect::Replayed { kind: self.kind_name(), name }))
    }

    fn read(&self, id: &str) -> Result<Outcome, Refusal> {
        let (_, object) = self.find(id)?;
        let name = world::name(object).to_owned();
        let reply = Reply::object(StatusCode::OK, object);
        Ok(Outcome::new(reply, Effect::Read { kind: self.kind_name(), name }))
    }

    fn update(&self, id: &str) -> Result<Outcome, Refusal> {
        let (number, old) = self.find(id)?;
        let fields = self.kind.check(self.request.json()?)?;
        self.kind.check_fixed(old, &fields)?;
        self.check_unique(&fields, Some(number))?;
        self.check_references(&fields)?;
        let object = self.kind.complete(fields, number);
        let reply = Reply::object(StatusCode::OK, &object);
        Ok(Outcome::new(reply, Effect::Updated { kind: self.kind_name(), number, object }))
    }

    fn delete(&self, id: &str) -> Result<Outcome, Refusal> {
        let (number, _) = self.find(id)?;
        for (other, attribute) in self.vendor.referrers(&self.kind.name) {
            let users = self.world.kinds.get(other);
            if users.is_some_and(|users| users.index.find(attribute, id).next().is_some()) {
                let message = format!("{id} is in use by a {other}");
                return Err(Refusal::new(StatusCode::CONFLICT, "in_use", message).id(id.to_owned()));
            }
        }
        let reply = Reply::empty(StatusCode::NO_CONTENT);
        Ok(Outcome::new(reply, Effect::Deleted { kind: self.kind_name(), number }))
    }

    fn list(&self) -> Result<Outcome, Refusal> {
        let unreadable =
            || Refusal::new(StatusCode::BAD_REQUEST, "invalid_query", "the query cannot be read");
        let query = self.request.query.as_ref().ok_or_else(unreadable)?;
        let names = &self.kind.list;
        let mut after = 0;
        let mut filters = Vec::new();
        for (parameter, value) in query {
            if *parameter == names.cursor {
                after = self.kind.number(value).ok_or_else(|| Refusal::invalid(parameter, "not a cursor"))?;
            } else if *parameter == names.name {
                filters.push((NAME, value));
            } else if self.kind.filters.contains(parameter) {
                filters.push((parameter.as_str(), value));
            } else {
                return Err(Refusal::invalid(parameter, "there is no such query parameter"));
            }
        }
        let (items, next) = self.page(&filters, after);
        let mut page = Map::new();
        page.insert(names.items.clone(), json!(items));
        page.insert(names.next.clone(), json!(next));
        let reply = Reply::new(StatusCode::OK, &Value::Object(page));
        Ok(Outcome::new(reply, Effect::Listed { kind: self.kind_name() }))
    }

    /// The objects that fit, made after the cursor's; and the cursor of the next page.
    fn page(&self, filters: &[(&str, &String)], after: u64) -> (Vec<&Object>, Option<String>) {
        let Some(first) = after.checked_add(1) else { return (Vec::new(), None) };
        let all = &self.objects.objects;
        // The first filter finds, the others only look.
        let candidates: Box<dyn Iterator<Item = (u64, &Object)>> = match filters.first() {
            Some((attribute, value)) => {
                let found = self.objects.index.find(attribute, value).filter(move |number| *number >= first);
                Box::new(found.filter_map(|number| Some((number, all.get(&number)?))))
            }
            None => Box::new(all.range(first..).map(|(number, object)| (*number, object))),
        };
        let fits =
            |object: &Object| filters.iter().all(|(name, value)| object.get(*name) == Some(&json!(value)));
        let mut fitting = candidates.filter(|(_, object)| fits(object)).peekable();
        let page: Vec<_> = fitting.by_ref().take(self.vendor.page_size).collect();
        let more = fitting.peek().is_some();
        let next = page.last().filter(|_| more).map(|(number, _)| self.kind.id(*number));
        (page.into_iter().map(|(_, object)| object).collect(), next)
    }

    fn find(&self, id: &str) -> Result<(u64, &Object), Refusal> {
        let found =
            self.kind.number(id).and_then(|number| Some((number, self.objects.objects.get(&number)?)));
        found.ok_or_else(|| Refusal::not_found(format!("there is no {} {id}", self.kind.name)))
    }

    fn check_unique(&self, fields: &Object, myself: Option<u64>) -> Result<(), Refusal> {
        for attribute in &self.kind.unique {
            let Some(text) = fields.get(attribute).and_then(Value::as_str) else { continue };
            let other = self.objects.index.find(attribute, text).find(|number| Some(*number) != myself);
            if let Some(other) = other {
                let message = format!("another {} has the {attribute} {text:?}", self.kind.name);
                let refusal = Refusal::new(StatusCode::CONFLICT, format!("{attribute}_taken"), message);
                return Err(refusal.field(attribute).id(self.kind.id(other)));
            }
        }
        Ok(())
    }

    fn check_references(&self, fields: &Object) -> Result<(), Refusal> {
        for (attribute, target) in &self.kind.references {
            let Some(id) = fields.get(attribute).and_then(Value::as_str) else { continue };
            let number = self.vendor.kinds.get(target).and_then(|kind| kind.number(id));
            let targets = self.world.kinds.get(target);
            if !number.is_some_and(|number| targets.is_some_and(|all| all.objects.contains_key(&number))) {
                let message = format!("there is no {target} {id}");
                let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_reference", message);
                return Err(refusal.field(attribute));
            }
        }
        Ok(())
    }

    fn kind_name(&self) -> String {
        self.kind.name.clone()
    }
}
