//! The vendors of a running role: read without locks, exchanged as a whole when their folders change.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::catalogue::Catalogue;
use crate::error::LoadError;
use crate::folder::{self, Fingerprint};
use crate::vendor::Vendor;

/// How often the folders are looked at.
pub const PAUSE: Duration = Duration::from_secs(1);

/// The vendors as they are now. A clone sees the same changes.
#[derive(Clone, Debug)]
pub struct Vendors {
    current: Arc<ArcSwap<Catalogue>>,
    watched: Option<Arc<Watched>>,
}

#[derive(Debug)]
struct Watched {
    dir: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    fingerprint: Fingerprint,
    problem: Option<String>,
}

/// Why changed folders are not taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The folders are not valid.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Something is gone that stored objects may need.
    #[error(
        "{what} is gone, and stored objects may need it: bring it back, or start wanwright anew without it"
    )]
    Gone {
        /// What is gone.
        what: String,
    },
    /// A version of a template is not what it was.
    #[error(
        "version {version} of the template of {vendor} is not what it was, and stacks may have it: bring it back, and \
         put the new one beside it as the next version"
    )]
    Edited {
        /// Whose template.
        vendor: String,
        /// Which version.
        version: u32,
    },
}

/// What a look at the folders found.
#[derive(Debug)]
pub enum Refreshed {
    /// Nothing has changed since the last look, or what has changed is not written completely.
    Same,
    /// The folders have changed and are in force; the vendors that differ are named.
    Swapped(Vec<String>),
    /// The folders have changed and are not in force: the earlier ones still are. Said once for each content.
    Refused(RefreshError),
}

impl Vendors {
    /// Reads the folders in `dir`; [`Vendors::refresh`] looks at them again.
    ///
    /// # Errors
    /// As [`Catalogue::load`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LoadError> {
        let dir = dir.into();
        let fingerprint = folder::fingerprint(&dir)?;
        let current = Arc::new(ArcSwap::from_pointee(Catalogue::load(&dir)?));
        let seen = Mutex::new(Seen { fingerprint, problem: None });
        Ok(Self { current, watched: Some(Arc::new(Watched { dir, seen })) })
    }

    /// The vendors as they are now. Whoever decides something takes them once and decides it whole with them.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Catalogue> {
        self.current.load_full()
    }

    /// Why the folders as they are now are not in force, if they are not.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let watched = self.watched.as_ref()?;
        watched.seen.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Looks whether the folders have changed, and takes them over if they are valid and miss nothing.
    pub fn refresh(&self) -> Refreshed {
        let Some(watched) = &self.watched else { return Refreshed::Same };
        let mut seen = watched.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A folder that cannot be listed now is looked at again; it was there.
        let Ok(fingerprint) = folder::fingerprint(&watched.dir) else { return Refreshed::Same };
        if fingerprint == seen.fingerprint {
            return Refreshed::Same;
        }
        let loaded = self.loaded(&watched.dir);
        if folder::fingerprint(&watched.dir).ok().as_ref() != Some(&fingerprint) {
            return Refreshed::Same;
        }
        seen.fingerprint = fingerprint;
        match loaded {
            Ok((catalogue, changed)) => {
                seen.problem = None;
                if changed.is_empty() {
                    return Refreshed::Same;
                }
                self.current.store(Arc::new(catalogue));
                Refreshed::Swapped(changed)
            }
            Err(error) => {
                seen.problem = Some(error.to_string());
                Refreshed::Refused(error)
            }
        }
    }

    fn loaded(&self, dir: &Path) -> Result<(Catalogue, Vec<String>), RefreshError> {
        let (before, after) = (self.snapshot(), Catalogue::load(dir)?);
        if let Some(what) = before.iter().find_map(|vendor| gone(vendor, after.get(&vendor.name))) {
            return Err(RefreshError::Gone { what });
        }
        if let Some((vendor, version)) =
            before.iter().find_map(|vendor| edited(vendor, after.get(&vendor.name)))
        {
            return Err(RefreshError::Edited { vendor, version });
        }
        let same = |vendor: &&Vendor| before.get(&vendor.name).is_some_and(|old| old.digest == vendor.digest);
        let changed = after.iter().filter(|vendor| !same(vendor)).map(|vendor| vendor.name.clone()).collect();
        Ok((after, changed))
    }

    /// Looks at the folders every [`PAUSE`] until the answer is dropped, and says what it found unless that is nothing.
    #[must_use]
    pub fn watch(&self, found: impl Fn(Refreshed) + Send + 'static) -> Watching {
        let vendors = self.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                match vendors.refresh() {
                    Refreshed::Same => {}
                    news => found(news),
                }
            }
        });
        Watching { stop: Some(stop), thread: Some(thread) }
    }
}

impl From<Catalogue> for Vendors {
    fn from(catalogue: Catalogue) -> Self {
        Arc::new(catalogue).into()
    }
}

/// Vendors that never change.
impl From<Arc<Catalogue>> for Vendors {
    fn from(catalogue: Arc<Catalogue>) -> Self {
        Self { current: Arc::new(ArcSwap::new(catalogue)), watched: None }
    }
}

impl From<&Arc<Catalogue>> for Vendors {
    fn from(catalogue: &Arc<Catalogue>) -> Self {
        Arc::clone(catalogue).into()
    }
}

impl From<&Catalogue> for Vendors {
    fn from(catalogue: &Catalogue) -> Self {
        catalogue.clone().into()
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watching {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say any more, even if it panicked.
            let _ = thread.join();
        }
    }
}

/// What a vendor had that it has no longer and that reading stored objects may take.
fn gone(before: &Vendor, after: Option<&Vendor>) -> Option<String> {
    let Some(after) = after else { return Some(format!("vendor {}", before.name)) };
    if let Some(template) = before.templates().find(|template| after.template(template.version).is_none()) {
        return Some(format!("version {} of the template of {}", template.version, before.name));
    }
    before.schemas.iter().find_map(|(kind, schemas)| {
        let there = |version| after.schemas.get(kind).is_some_and(|after| after.get(version).is_some());
        let (version, _) = schemas.versions().find(|(version, _)| !there(*version))?;
        Some(format!("version {version} of the settings of a {kind} of {}", before.name))
    })
}

/// A version of a template that says something else than before. Who has one version only may edit it in place, and the
/// next run of every stack takes it; where there are several, which stack has which content is history.
fn edited(before: &Vendor, after: Option<&Vendor>) -> Option<(String, u32)> {
    if before.later_templates.is_empty() {
        return None;
    }
    let differs = |version| after?.template(version).map(|now| now.digest.clone());
    let edited =
        before.templates().find(|was| differs(was.version).is_some_and(|digest| digest != was.digest))?;
    Some((before.name.clone(), edited.version))
}
