//! The first start of a home. A nats-server that is killed while it makes a stream leaves a folder that it cannot read
//! ever after, and then never says that it is healthy. Until every stream is there nobody writes into any, so a start
//! that did not get that far is begun anew.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The first start, from before the first stream is made until the last one is.
pub struct FirstStart {
    mark: PathBuf,
}

impl FirstStart {
    /// Begins it, or does nothing in a home whose streams are there.
    pub fn begin(home: &Path) -> Result<Self> {
        let (mark, streams) = (home.join("first-start"), home.join("nats/jetstream"));
        if mark.exists() && streams.exists() {
            fs::remove_dir_all(&streams).with_context(|| format!("removing {}", streams.display()))?;
        }
        if !streams.exists() {
            let marked = fs::File::create(&mark).and_then(|file| file.sync_all());
            marked.with_context(|| format!("writing {}", mark.display()))?;
        }
        Ok(Self { mark })
    }

    /// Every stream is there: from here on what they hold is kept.
    pub fn done(self) -> Result<()> {
        match fs::remove_file(&self.mark) {
            // A mark that came back with a power cut would cost the history: its removal is on disk before we go on.
            Ok(()) => {
                let home = self.mark.parent().unwrap_or(Path::new("/"));
                let synced = fs::File::open(home).and_then(|folder| folder.sync_all());
                synced.with_context(|| format!("syncing {}", home.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("removing {}", self.mark.display())),
        }
    }
}
