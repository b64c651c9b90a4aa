//! Whole lists for looks: where a vendor lists its objects whole, one list answers many looks for drift.
//!
//! A list only says that an object is as it should be. What seems to differ is read on its own before it is reported, so
//! nothing is reported that had been put right since the list was made.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use wanwright_vendors::{ClientError, RemoteObject, ResourceClient};

/// Most objects kept of one list; of a longer one objects are read one by one.
const MOST_OBJECTS: usize = 50_000;

/// The latest lists of every vendor and account, shared by the runs of one process.
#[derive(Debug, Default)]
pub struct Scans {
    lists: StdMutex<HashMap<String, Slot>>,
}

/// A list that one run makes while the others wait for it.
type Slot = Arc<Mutex<Option<Scan>>>;

#[derive(Debug)]
struct Scan {
    begun: Instant,
    /// By id; `None` if there were too many.
    objects: Option<HashMap<String, RemoteObject>>,
}

impl Scans {
    /// The object as the latest list has it; `None` if the vendor's lists cannot say, or do not have it. `of` names
    /// whose list it is.
    pub(super) async fn object(
        &self,
        of: &str,
        client: &ResourceClient,
        attributes: &Map<String, Value>,
        id: &str,
    ) -> Result<Option<RemoteObject>, ClientError> {
        let Some(fresh) = client.api().list.as_ref().and_then(|list| list.fresh) else { return Ok(None) };
        let address = Value::Object(client.api().address(attributes));
        let slot = self.slot(format!("{of} {} {address}", client.api().kind));
        let mut slot = slot.lock().await;
        let scan = match slot.take().filter(|scan| scan.begun.elapsed() < fresh) {
            Some(scan) => scan,
            None => scan(client).await?,
        };
        let found = scan.objects.as_ref().and_then(|objects| objects.get(id).cloned());
        *slot = Some(scan);
        Ok(found)
    }

    fn slot(&self, key: String) -> Slot {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        // A list that nobody waits for and that is long past its time is not kept for ever.
        lists.retain(|other, slot| {
            *other == key || slot.try_lock().map_or(true, |scan| is_young(scan.as_ref()))
        });
        Arc::clone(lists.entry(key).or_default())
    }
}

fn is_young(scan: Option<&Scan>) -> bool {
    scan.is_some_and(|scan| scan.begun.elapsed() < Duration::from_secs(3600))
}

async fn scan(client: &ResourceClient) -> Result<Scan, ClientError> {
    let begun = Instant::now();
    let mut objects = HashMap::new();
    let listed = client.list(|page| {
        objects.extend(page.into_iter().map(|object| (object.id.clone(), object)));
        if objects.len() > MOST_OBJECTS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    listed.await?;
    let whole = objects.len() <= MOST_OBJECTS;
    Ok(Scan { begun, objects: whole.then_some(objects) })
}
