//! The pool: processes of foreign providers, by package and gateway.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::package::Package;
use super::plugin::{Answer, Plugin};
use crate::terraform::error::TerraformError;

/// How long a process waits for another run before it is ended.
const IDLE: Duration = Duration::from_secs(120);

/// How often is looked for those that waited so long.
const LOOK: Duration = Duration::from_secs(15);

/// The processes of all foreign providers of one executor.
#[derive(Debug)]
pub(in crate::terraform) struct Pool {
    sockets: PathBuf,
    groups: Arc<Groups>,
}

type Groups = Mutex<HashMap<(PathBuf, u16), Arc<Group>>>;

/// The processes of one package that reach the same gateway.
pub(super) struct Group {
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<(Instant, Plugin)>>,
    /// What it answers about itself, which is the same for each of its processes.
    answers: Mutex<HashMap<String, Answer>>,
    /// Every process that was started.
    #[cfg(test)]
    started: Mutex<Vec<u32>>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("slots", &self.slots).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// An empty pool, whose processes have their sockets below this folder. Call it inside a tokio runtime.
    pub(in crate::terraform) fn new(sockets: PathBuf) -> Self {
        let groups = Arc::new(Groups::default());
        tokio::spawn(retire(Arc::downgrade(&groups)));
        Self { sockets, groups }
    }

    /// A process for one run. Waits while as many run as may.
    pub(in crate::terraform) async fn lease(
        &self,
        package: &Package,
        gateway: u16,
    ) -> Result<Lease, TerraformError> {
        let group = self.group(package, gateway);
        let slot = Arc::clone(&group.slots).acquire_owned().await;
        let slot = slot.map_err(|error| TerraformError::Provider(error.into()))?;
        let plugin = match group.take() {
            Some(plugin) => plugin,
            None => {
                let plugin = Plugin::start(package, gateway, &self.sockets).await?;
                #[cfg(test)]
                locked(&group.started).push(plugin.id());
                tracing::info!(
                    provider = package.settings.address,
                    pid = plugin.id(),
                    "a provider was started"
                );
                plugin
            }
        };
        Ok(Lease { plugin: Some(plugin), reuse: AtomicBool::new(package.settings.reuse), group, _slot: slot })
    }

    fn group(&self, package: &Package, gateway: u16) -> Arc<Group> {
        let processes = usize::try_from(package.settings.processes).unwrap_or(1);
        let make = || Group {
            slots: Arc::new(Semaphore::new(processes)),
            idle: Mutex::default(),
            answers: Mutex::default(),
            #[cfg(test)]
            started: Mutex::default(),
        };
        let mut groups = locked(&self.groups);
        Arc::clone(groups.entry((package.folder.clone(), gateway)).or_insert_with(|| Arc::new(make())))
    }

    /// Every process that was started, in this order.
    #[cfg(test)]
    pub(in crate::terraform) fn started(&self) -> Vec<u32> {
        locked(&self.groups).values().flat_map(|group| locked(&group.started).clone()).collect()
    }

    /// Ends those that have waited so long for a run.
    #[cfg(test)]
    pub(super) fn end_idle(&self, waited: Duration) {
        end_idle(&self.groups, waited);
    }
}

impl Group {
    /// The one that waited least, so that those too many come to wait long. Dead ones are forgotten.
    fn take(&self) -> Option<Plugin> {
        let mut idle = locked(&self.idle);
        idle.retain(|(_, plugin)| plugin.is_alive());
        idle.pop().map(|(_, plugin)| plugin)
    }
}

/// Ends processes that nobody needs, for as long as there is a pool.
async fn retire(groups: Weak<Groups>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(groups) = groups.upgrade() else { return };
        end_idle(&groups, IDLE);
    }
}

fn end_idle(groups: &Groups, waited: Duration) {
    let groups: Vec<Arc<Group>> = locked(groups).values().cloned().collect();
    for group in groups {
        locked(&group.idle).retain(|(since, plugin)| since.elapsed() < waited && plugin.is_alive());
    }
}

/// A process that one run has for itself. When it is given back it waits for the next run, unless it may not serve another
/// one, or something about it is in doubt: then it is ended.
pub(in crate::terraform) struct Lease {
    plugin: Option<Plugin>,
    reuse: AtomicBool,
    group: Arc<Group>,
    _slot: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("reuse", &self.reuse).finish_non_exhaustive()
    }
}

impl Lease {
    /// The process.
    pub(super) fn plugin(&self) -> Option<&Plugin> {
        self.plugin.as_ref()
    }

    /// No other run gets this process.
    pub(super) fn spoil(&self) {
        self.reuse.store(false, Ordering::Relaxed);
    }

    /// What the provider answered to a question about itself.
    pub(super) fn known(&self, question: &str) -> Option<Answer> {
        locked(&self.group.answers).get(question).cloned()
    }

    /// Keeps that.
    pub(super) fn keep(&self, question: &str, answer: &Answer) {
        locked(&self.group.answers).insert(question.to_owned(), answer.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(plugin) = self.plugin.take() else { return };
        if *self.reuse.get_mut() && plugin.is_alive() {
            locked(&self.group.idle).push((Instant::now(), plugin));
        }
    }
}
