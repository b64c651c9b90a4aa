//! What every test here uses.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::OnceCell;
use wanwright_tests::{Home, Program, Running};

/// The program under test.
pub fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_wanwright"))
}

/// A folder for an installation. Servers that have to be fetched are kept between runs, beside those of other tests.
pub fn home() -> Result<Arc<Home>> {
    Ok(Arc::new(Home::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs"))?))
}

/// A system of a test's own, for tests that break it.
pub async fn own() -> Result<Running> {
    Running::up(&program(), &home()?).await
}

/// The system that tests share which break nothing. Each has customers of its own.
pub async fn shared() -> Result<&'static Running> {
    static SHARED: OnceCell<Running> = OnceCell::const_new();
    SHARED.get_or_try_init(own).await
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
