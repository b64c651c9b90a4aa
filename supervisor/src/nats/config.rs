//! The configuration file, and what is kept between starts.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::NatsOptions;
use crate::{Error, Result, secret};

const TEMPLATE: &str = include_str!("../../../nats/config/server.conf");
const LOGINS: &str = include_str!("../../../nats/config/logins.conf");
const CLUSTER: &str = include_str!("../../../nats/config/cluster.conf");

/// When the server writes acknowledged messages through to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before it acknowledges them.
    Always,
    /// Every two minutes: several times faster, and a power cut loses what was acknowledged since.
    Lazy,
}

/// A user and its generated password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Name.
    pub user: String,
    /// Password. A secret.
    pub password: String,
}

impl Login {
    pub(super) fn generate(user: &str) -> Result<Self> {
        Ok(Self { user: user.to_owned(), password: secret::password()? })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The two ports of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) monitor: u16,
}

/// What the next start with the same folder uses again: clients then reconnect with the address they have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) client: Login,
    pub(super) system: Login,
    pub(super) ports: Option<Ports>,
}

impl State {
    pub(super) fn load_or_make(dir: &Path) -> Result<Self> {
        let path = Self::path(dir);
        if let Some(text) = secret::read(&path)? {
            let unusable = |error| {
                Error::Unusable(format!(
                    "{} cannot be read ({error}); remove it to make new credentials",
                    path.display()
                ))
            };
            return serde_json::from_str(&text).map_err(unusable);
        }
        let state = Self::make()?;
        state.save(dir)?;
        Ok(state)
    }

    /// New credentials, and no ports yet.
    pub(super) fn make() -> Result<Self> {
        Ok(Self { client: Login::generate("wanwright")?, system: Login::generate("system")?, ports: None })
    }

    pub(super) fn save(&self, dir: &Path) -> Result<()> {
        let path = Self::path(dir);
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Error::io("write", &path)(error.into()))?;
        secret::write(&path, &text)
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("credentials.json")
    }
}

/// Fills in the template and writes `nats.conf`, readable for its owner only because passwords are in it.
pub(super) fn write(options: &NatsOptions, dir: &Path, ports_dir: &Path, state: &State) -> Result<PathBuf> {
    let config = dir.join("nats.conf");
    secret::write(&config, &fill_in(options, dir, ports_dir, state))?;
    Ok(config)
}

fn fill_in(options: &NatsOptions, dir: &Path, ports_dir: &Path, state: &State) -> String {
    let port = |port: Option<u16>| port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let sync_interval = match options.sync_interval {
        SyncInterval::Always => "always",
        SyncInterval::Lazy => "\"2m\"",
    };
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let values = [
        ("server_name", quoted(&options.server_name)),
        ("port", port(state.ports.map(|ports| ports.client))),
        ("monitor_port", port(state.ports.map(|ports| ports.monitor))),
        ("ports_dir", path(ports_dir)),
        ("pid_file", path(&dir.join("nats.pid"))),
        ("store_dir", path(dir)),
        ("sync_interval", sync_interval.to_owned()),
        ("max_file_store", options.max_file_store.to_string()),
        ("authority", options.authority.clone().unwrap_or_else(|| LOGINS.to_owned())),
        ("user", quoted(&state.client.user)),
        ("password", quoted(&state.client.password)),
        ("system_user", quoted(&state.system.user)),
        ("system_password", quoted(&state.system.password)),
        ("extra", options.extra.clone()),
    ];
    fill_words(TEMPLATE, &values)
}

/// The part of a configuration that makes a server on this machine one of a cluster: at which of the ports the others
/// reach it, and with which login.
pub(super) fn cluster(own: u16, ports: &[u16], login: &Login) -> String {
    let Login { user, password } = login;
    let route = |port: &u16| quoted(&format!("nats://{user}:{password}@127.0.0.1:{port}"));
    let values = [
        ("cluster_listen", quoted(&format!("127.0.0.1:{own}"))),
        ("route_user", quoted(user)),
        ("route_password", quoted(password)),
        ("routes", ports.iter().map(route).collect::<Vec<_>>().join(", ")),
    ];
    fill_words(CLUSTER, &values)
}

fn fill_words(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// A string of the server's configuration language, which has JSON's escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_filled_in_completely() {
        let login = |user: &str| Login { user: user.into(), password: "secret".into() };
        let state = State { client: login("a"), system: login("b"), ports: None };
        let options = NatsOptions::new("/data", "/cache");
        let text = fill_in(&options, Path::new("/data"), Path::new("/data/ports"), &state);
        assert!(!text.lines().any(|line| !line.starts_with('#') && line.contains('@')), "{text}");
        assert!(text.contains("sync_interval: always"), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:-1\""), "{text}");
        assert!(text.contains("user: \"a\""), "{text}");

        let options = NatsOptions { authority: Some("operator: x".to_owned()), ..options };
        let text = fill_in(&options, Path::new("/data"), Path::new("/data/ports"), &state);
        assert!(text.contains("operator: x") && !text.contains("users:"), "{text}");
    }

    #[test]
    fn every_server_of_a_cluster_is_told_of_all() {
        let login = Login { user: "route".into(), password: "secret".into() };
        let text = cluster(7001, &[7001, 7002], &login);
        assert!(text.contains("listen: \"127.0.0.1:7001\""), "{text}");
        let routes = r#"["nats://route:secret@127.0.0.1:7001", "nats://route:secret@127.0.0.1:7002"]"#;
        assert!(text.contains(routes), "{text}");
        let rest = text.replace(routes, "");
        assert!(!rest.lines().any(|line| !line.starts_with('#') && line.contains('@')), "{text}");
    }

    #[test]
    fn a_password_is_not_printed() {
        let login = Login { user: "a".into(), password: "secret".into() };
        assert!(!format!("{login:?}").contains("secret"));
    }
}
