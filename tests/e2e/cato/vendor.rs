//! The stand-in: the documents of Cato's folder, answered as its public schema has them, and a count of every operation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response, Uri};
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The account that its customer has there.
pub const ACCOUNT: &str = "1941";

/// What is documented: so many calls of an operation in a minute, of those that are named and of any other.
const LOOKUPS: usize = 30;
const OTHERS: usize = 120;

/// How long to leave it alone that said so.
const PAUSE: Duration = Duration::from_secs(5);

/// What goes wrong at the next call of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It says that the limit of its rate is reached, with status 200, and does nothing.
    Busy,
    /// It does what it was asked for and its answer is cut.
    Lost,
}

#[derive(Debug, Default)]
struct World {
    sites: BTreeMap<String, Value>,
    /// How often a site of a name was made.
    made: BTreeMap<String, u32>,
    calls: Vec<(Instant, String)>,
    faults: BTreeMap<String, Fault>,
    /// When it said that it was busy.
    busy: Option<Instant>,
    /// Calls that no client of this vendor makes, or not then.
    wrong: Vec<String>,
}

impl World {
    fn answer(&mut self, operation: &str, variables: &Value) -> Result<Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let input = &variables["input"];
        Ok(match operation {
            "AddSite" => {
                let name = text(&input["name"]);
                let taken = self.sites.values().any(|site| site["site"]["name"] == name);
                ensure!(!taken, "a site of this name exists");
                *self.made.entry(name).or_default() += 1;
                let id = (135 + self.made.values().sum::<u32>()).to_string();
                self.sites.insert(id.clone(), details(&id, input, "city"));
                json!({ "site": { "addSocketSite": { "siteId": id } } })
            }
            "SiteDetails" => {
                let id = text(&variables["site"]["input"]);
                json!({ "site": { "siteGeneralDetails": self.sites.get(&id) } })
            }
            "UpdateSite" => {
                let id = text(&variables["siteId"]);
                let site = self.sites.get_mut(&id).with_context(|| format!("there is no site {id}"))?;
                *site = details(&id, input, "cityName");
                json!({ "site": { "updateSiteGeneralDetails": { "siteId": id } } })
            }
            "RemoveSite" => {
                let id = text(&variables["siteId"]);
                self.sites.remove(&id).with_context(|| format!("there is no site {id}"))?;
                json!({ "site": { "removeSite": { "siteId": id } } })
            }
            "SiteLookup" => {
                let (search, number) = (text(&variables["search"]), |name: &str| variables[name].as_u64());
                let is_meant = |site: &&Value| text(&site["site"]["name"]).contains(&search);
                let all: Vec<Value> = self
                    .sites
                    .values()
                    .filter(is_meant)
                    .map(|site| json!({ "site": site["site"] }))
                    .collect();
                let (from, limit) = (number("from").context("from")?, number("limit").context("limit")?);
                let page = all.iter().skip(from.try_into()?).take(limit.try_into()?);
                json!({ "entityLookup": { "items": page.collect::<Vec<_>>(), "total": all.len() } })
            }
            other => return Err(anyhow!("there is no operation {other}")),
        })
    }

    fn hear(&mut self, operation: &str) {
        if self.busy.is_some_and(|said| said.elapsed() < PAUSE) {
            self.wrong.push(format!("{operation} {:?} after it said that it was busy", self.busy));
        }
        self.calls.push((Instant::now(), operation.to_owned()));
    }
}

/// A site as it is shown.
fn details(id: &str, input: &Value, city: &str) -> Value {
    let place = &input["siteLocation"];
    json!({
        "site": { "id": id, "name": input["name"] },
        "siteType": input["siteType"],
        "description": input["description"],
        "siteLocation": {
            "countryCode": place["countryCode"], "stateCode": place["stateCode"], "cityName": place[city],
            "timezone": place["timezone"],
        },
    })
}

/// The vendor.
pub struct Cato {
    pub url: String,
    world: Arc<Mutex<World>>,
}

impl Cato {
    /// Starts it; whoever calls it has this key.
    pub async fn start(key: &'static str) -> Result<Self> {
        let (listener, world) = (TcpListener::bind(("127.0.0.1", 0)).await?, Arc::<Mutex<World>>::default());
        let (url, kept) = (format!("http://{}", listener.local_addr()?), Arc::clone(&world));
        let answer = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let Ok(mut world) = kept.lock() else { return Response::new(Body::empty()) };
            let failed = |message: &str| {
                let error = json!({ "message": message, "extensions": { "code": "Code104" } });
                Response::new(Body::from(json!({ "data": null, "errors": [error] }).to_string()))
            };
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (operation, variables) =
                (asked["operationName"].as_str().unwrap_or_default(), &asked["variables"]);
            let has_operation =
                asked["query"].as_str().is_some_and(|text| text.contains(&format!(" {operation}(")));
            let knows = headers.get("x-api-key").is_some_and(|given| given == key);
            if method != Method::POST || uri.path() != "/api/v1/graphql2" || !knows || !has_operation {
                world.wrong.push(format!("{method} {uri} {asked}"));
                return failed("access denied");
            }
            world.hear(operation);
            if variables["accountId"] != ACCOUNT {
                return failed("no access to this account");
            }
            let fault = world.faults.remove(operation);
            if fault == Some(Fault::Busy) {
                world.busy = Some(Instant::now());
                return failed(&format!("rate limit for operation: {operation}"));
            }
            match world.answer(operation, variables) {
                Ok(_) if fault == Some(Fault::Lost) => {
                    let cut = std::io::Error::other("cut");
                    Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(cut)])))
                }
                Ok(data) => Response::new(Body::from(json!({ "data": data }).to_string())),
                Err(error) => failed(&error.to_string()),
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Ok(Self { url, world })
    }

    fn world(&self) -> Result<std::sync::MutexGuard<'_, World>> {
        self.world.lock().map_err(|_| anyhow!("the stand-in panicked"))
    }

    /// What goes wrong at the next call of an operation.
    pub fn fail(&self, operation: &str, fault: Fault) -> Result<()> {
        self.world()?.faults.insert(operation.to_owned(), fault);
        Ok(())
    }

    /// Whether that has gone wrong.
    pub fn has_failed(&self) -> Result<bool> {
        Ok(self.world()?.faults.is_empty())
    }

    /// The site of a name.
    pub fn site(&self, name: &str) -> Result<Value> {
        let world = self.world()?;
        let found = world.sites.values().find(|site| site["site"]["name"] == name).cloned();
        found.with_context(|| format!("the vendor has no {name}"))
    }

    /// Changes a site behind everybody's back.
    pub fn drift(&self, name: &str, field: &str, value: &str) -> Result<()> {
        let mut world = self.world()?;
        let site = world.sites.values_mut().find(|site| site["site"]["name"] == name);
        site.context("the vendor has no such site")?[field] = json!(value);
        Ok(())
    }

    /// How many sites there are.
    pub fn sites(&self) -> Result<usize> {
        Ok(self.world()?.sites.len())
    }

    /// Calls of each operation.
    pub fn calls(&self) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        self.world()?
            .calls
            .iter()
            .for_each(|(_, operation)| *counts.entry(operation.clone()).or_default() += 1);
        Ok(counts)
    }

    /// Fails unless so many sites were made, each once, within the limits of every minute, and nothing else was asked.
    pub fn judge(&self, sites: usize) -> Result<()> {
        let world = self.world()?;
        ensure!(
            world.made.len() == sites && world.made.values().all(|times| *times == 1),
            "{:?}",
            world.made
        );
        ensure!(world.wrong.is_empty(), "{:?}", world.wrong);
        for operation in world.calls.iter().map(|(_, operation)| operation) {
            let limit = if operation == "SiteLookup" { LOOKUPS } else { OTHERS };
            let of = world.calls.iter().filter(|(_, other)| other == operation).map(|(at, _)| *at);
            let of: Vec<Instant> = of.collect();
            let over = of
                .iter()
                .zip(of.iter().skip(limit))
                .any(|(first, next)| *next - *first < Duration::from_secs(60));
            ensure!(!over, "more than {limit} calls of {operation} in a minute");
        }
        Ok(())
    }
}
