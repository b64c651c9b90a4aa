//! The cluster of nats/README.md as it is written there, certificates and all: three servers that speak to each other and
//! to clients encrypted, and to nobody whose certificate somebody else signed.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use wanwright_nats::accounts::{Authority, Role};
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::{Child, ChildSpec, obtain_nats};
use wanwright_tests::{Home, Program, Timing, level};

use crate::support::{home, program};

const README: &str = include_str!("../../nats/README.md");

/// What stands between the fences behind these words.
fn documented(words: &str) -> Result<&'static str> {
    let (_, rest) = README.split_once(words).with_context(|| format!("{words} is not documented"))?;
    let (_, rest) = rest.split_once("```\n").context("no beginning")?;
    Ok(rest.split_once("```").context("no end")?.0)
}

/// A certificate authority in a folder, which signs for this machine.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>> {
    std::fs::create_dir_all(dir)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    Ok(Issuer::new(params, key))
}

/// A certificate and its key beside that of their authority. A server shows its own to the others as a client does.
fn certificate(dir: &Path, name: &str, issuer: &Issuer<'static, KeyPair>) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    std::fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, issuer)?.pem())?;
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}

/// Ports of a machine: clients, servers, monitoring.
#[derive(Clone, Copy)]
struct Ports([u16; 3]);

impl Ports {
    fn free() -> Result<Self> {
        // All are held until all are known. They are below those that whoever asks for any port gets: it takes a while until
        // the servers have them.
        let mut held: Vec<TcpListener> = Vec::new();
        while held.len() < 3 {
            let random = std::hash::RandomState::new().build_hasher().finish();
            let port = 20_000 + u16::try_from(random % 12_000)?;
            held.extend(TcpListener::bind(("127.0.0.1", port)));
        }
        let ports: Vec<u16> = held.iter().map(|held| Ok(held.local_addr()?.port())).collect::<Result<_>>()?;
        ports.try_into().map(Self).map_err(|_| anyhow::anyhow!("three ports"))
    }
}

struct Cluster {
    home: Arc<Home>,
    program: PathBuf,
    ports: Vec<Ports>,
}

impl Cluster {
    /// The documented files of one machine, in a folder, with what is this machine's own put in: names, ports, folders.
    async fn configure(&self, number: usize, certificates: &Path) -> Result<PathBuf> {
        let dir = self.home.join(&format!("machine-{number}"));
        std::fs::create_dir_all(&dir)?;
        let Ports([client, route, monitor]) = self.ports[number];
        let accounts = dir.join("accounts").display().to_string();
        let trusted = program().call(&self.home, &["nats", "account", "config", &accounts]).await?.code(0)?;
        std::fs::write(dir.join("accounts.conf"), trusted.out)?;
        let etc = certificates.display().to_string();
        let mut nats = documented("`nats.conf`:")?.to_owned() + documented("## Encryption")?;
        for (old, new) in [
            ("server_name: nats-1", format!("server_name: nats-{}", number + 1)),
            ("0.0.0.0:4222", format!("127.0.0.1:{client}")),
            ("127.0.0.1:8222", format!("127.0.0.1:{monitor}")),
            ("/var/lib/nats", dir.display().to_string()),
            ("/etc/nats", etc.clone()),
        ] {
            ensure!(nats.contains(old), "{old} is not in {nats}");
            nats = nats.replace(old, &new);
        }
        let mut cluster = documented("`cluster.conf`:")?.to_owned();
        for (number, Ports([_, route, _])) in self.ports.iter().enumerate().take(3) {
            cluster = cluster.replace(&format!("@nats-{}:6222", number + 1), &format!("@127.0.0.1:{route}"));
        }
        cluster = cluster.replace("0.0.0.0:6222", &format!("127.0.0.1:{route}")).replace("/etc/nats", &etc);
        ensure!(cluster.contains("tls {") && !cluster.contains("6222"), "{cluster}");
        std::fs::write(dir.join("nats.conf"), nats)?;
        std::fs::write(dir.join("cluster.conf"), cluster)?;
        Ok(dir)
    }

    /// What the server itself says about the files.
    async fn check(&self, dir: &Path) -> Result<(bool, String)> {
        let mut check = tokio::process::Command::new(&self.program);
        let said = check.arg("-t").arg("-c").arg(dir.join("nats.conf")).output().await?;
        Ok((said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned()))
    }

    fn start(&self, dir: &Path) -> Result<Child> {
        let spec = ChildSpec::new(&self.program).arg("-c").arg(dir.join("nats.conf"));
        Ok(spec.cwd(dir).log(dir.join("nats.log")).spawn()?)
    }

    async fn monitored(&self, number: usize, path: &str) -> Result<serde_json::Value> {
        let Ports([_, _, monitor]) = self.ports[number];
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.get(format!("http://127.0.0.1:{monitor}/{path}")).send().await?;
        Ok(serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?)
    }

    /// The servers that one has routes to.
    async fn routes(&self, number: usize) -> Result<Vec<String>> {
        let said = self.monitored(number, "routez").await?;
        let routes = said["routes"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> =
            routes.iter().filter_map(|route| Some(route["remote_name"].as_str()?.to_owned())).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The program as somebody with a login and a certificate, or without one.
    fn caller(&self, creds: &Path, certificates: Option<&Path>) -> Program {
        let urls = self.ports.iter().take(3).map(|Ports([client, ..])| format!("nats://127.0.0.1:{client}"));
        let program = program()
            .with("WANWRIGHT_NATS", &urls.collect::<Vec<_>>().join(","))
            .with("WANWRIGHT_NATS_CREDS", &creds.display().to_string());
        let Some(dir) = certificates else { return program };
        let files = [("CA", "ca.pem"), ("CERT", "client.pem"), ("KEY", "client.key")];
        files.into_iter().fold(program, |program, (name, file)| {
            program.with(&format!("WANWRIGHT_NATS_{name}"), &dir.join(file).display().to_string())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_cluster_is_encrypted_and_keeps_a_command_three_times() -> Result<()> {
    let timing = Timing::of("three servers, encrypted");
    let home = home()?;
    let (ours, others) = (home.join("ours"), home.join("others"));
    for dir in [&ours, &others] {
        let issuer = authority(dir)?;
        certificate(dir, "server", &issuer)?;
        certificate(dir, "client", &issuer)?;
    }
    let program_path = obtain_nats(&home.join("cache")).await?.path;
    let ports = (0..4).map(|_| Ports::free()).collect::<Result<_>>()?;
    let cluster = Cluster { home: Arc::clone(&home), program: program_path, ports };
    let (mut dirs, mut servers) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let dir = cluster.configure(number, &ours).await?;
        let (is_good, said) = cluster.check(&dir).await?;
        ensure!(is_good, "{said}");
        dirs.push(dir);
    }
    // The same lines with a key that is not there are noticed, so they are read.
    let broken = cluster.configure(3, &home.join("nowhere")).await?;
    let (is_good, said) = cluster.check(&broken).await?;
    ensure!(!is_good && said.contains("nowhere"), "{said}");

    for dir in &dirs {
        servers.push(cluster.start(dir)?);
    }
    let formed = async || {
        let found = [cluster.routes(0).await?, cluster.routes(1).await?, cluster.routes(2).await?];
        Ok(found.iter().all(|routes| routes.len() == 2))
    };
    level::until("the servers find each other", level::LONG, formed).await?;
    for number in 0..3 {
        let said = cluster.monitored(number, "varz").await?;
        let required = |pointer: &str| said.pointer(pointer) == Some(&serde_json::Value::Bool(true));
        ensure!(required("/tls_required") && required("/cluster/tls_required"), "{said}");
        ensure!(required("/tls_verify") && required("/cluster/tls_verify"), "{said}");
    }

    let keys = Authority::open(&home.join("keys"), PARTITIONS)?;
    let admin = cluster.caller(&keys.role(Role::Admin), Some(&ours));
    let made = async || {
        let said = admin.call(&home, &["nats", "apply", "--replicas", "3"]).await?;
        Ok(said.code == 0)
    };
    level::until("the streams are made", level::LONG, made).await?;
    timing.say("streams with three replicas");
    let commands = cluster.caller(&keys.role(Role::Commands), Some(&ours));
    let spec = commands.spec(&home, &["serve", "commands"]).log(home.join("commands.log"));
    let mut role = spec.piped().spawn()?;
    let ready = role.lines()?.next().await?;
    ensure!(ready.as_deref() == Some("ready"), "{ready:?}: {}", home.read("commands.log"));
    let site = ["send", "site", "create", "acme/oslo", r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#];
    let sent = admin.call(&home, &site).await?.code(0)?;
    ensure!(sent.out.starts_with("accepted"), "{}", sent.out);
    let read = admin.call(&home, &["replay", "acme"]).await?.code(0)?;
    ensure!(read.out.contains("SiteCreated"), "{}", read.out);

    // Somebody else's certificate, or none: as a client, and as a server that knows the password of the others.
    for certificates in [Some(others.as_path()), None] {
        let stranger = cluster.caller(&keys.role(Role::Admin), certificates);
        let refused = stranger.call(&home, &["replay", "acme"]).await?.code(5)?;
        ensure!(refused.out.is_empty(), "{}", refused.out);
    }
    let dir = cluster.configure(3, &others).await?;
    servers.push(cluster.start(&dir)?);
    let log = dir.join("nats.log");
    let turned_away = async || Ok(std::fs::read_to_string(&log)?.contains("TLS route handshake error"));
    level::until("the stranger is turned away", level::LONG, turned_away).await?;
    for number in 0..3 {
        let routes = cluster.routes(number).await?;
        ensure!(routes.len() == 2 && !routes.contains(&"nats-4".to_owned()), "{routes:?}");
    }
    Ok(())
}
