//! The first start: password, cluster, database.

use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::{NAME, log};
use crate::run::to_end;
use crate::{ChildSpec, Error, Result, User, secret};

const LIMIT: Duration = Duration::from_secs(120);

/// The superuser's password, made before the cluster that is going to have it.
pub(super) fn password(dir: &Path, data: &Path) -> Result<String> {
    let path = dir.join("password");
    if let Some(password) = secret::read(&path)? {
        return Ok(password.trim().to_owned());
    }
    if data.exists() {
        return Err(Error::Unusable(format!(
            "{} is missing, and the data in {} cannot be opened without it; put it back, or remove {} to start afresh",
            path.display(),
            data.display(),
            data.display()
        )));
    }
    let password = secret::password()?;
    secret::write(&path, &format!("{password}\n"))?;
    Ok(password)
}

/// Makes the cluster and its database beside their final place and moves them there when they are complete.
pub(super) async fn cluster(bin: &Path, dir: &Path, password: &str, user: Option<&User>) -> Result<()> {
    let work = dir.join("init");
    let data = work.join("data");
    // Left by a process that was killed.
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir(&work).map_err(Error::io("make the folder", &work))?;
    hand_over(&work, user)?;
    let (password_file, statements) = (work.join("password"), work.join("statements"));
    secret::write(&password_file, password)?;
    hand_over(&password_file, user)?;
    secret::write(&statements, &format!("CREATE DATABASE {NAME}\n"))?;

    let initdb = postgres_program(&bin.join("initdb"), dir, user)
        .arg("--pgdata")
        .arg(&data)
        .args([
            "--username",
            NAME,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--data-checksums",
        ])
        .arg("--pwfile")
        .arg(&password_file);
    to_end("initdb", initdb, &log(dir), LIMIT).await?;

    // The single-user mode needs no server, no port and no psql.
    let single = postgres_program(&bin.join("postgres"), dir, user)
        .arg("--single")
        .arg("-D")
        .arg(&data)
        .arg("template1");
    let said = to_end("creating the database", single.stdin(&statements), &log(dir), LIMIT).await?;
    // It goes on after an error and ends with success.
    if ["ERROR:", "FATAL:"].iter().any(|word| said.recent().contains(word)) {
        return Err(Error::Unusable(format!(
            "Postgres could not create the database {NAME}; {}:\n{}",
            said.path.display(),
            said.tail()
        )));
    }
    let place = dir.join("data");
    std::fs::rename(&data, &place).map_err(Error::io("make", &place))?;
    std::fs::remove_dir_all(&work).map_err(Error::io("remove", &work))
}

/// A program of Postgres: untranslated messages, UTC whatever the machine's zone, and the death of an "immediate shutdown",
/// in which the postmaster still ends its own processes.
pub(super) fn postgres_program(program: &Path, dir: &Path, user: Option<&User>) -> ChildSpec {
    let spec = ChildSpec::new(program).cwd(dir).user(user.cloned()).env("LC_ALL", "C").env("TZ", "UTC");
    spec.death_signal(Signal::QUIT).stop_signal(Signal::INT)
}

fn hand_over(path: &Path, user: Option<&User>) -> Result<()> {
    match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(Error::io("give away", path)),
        None => Ok(()),
    }
}
