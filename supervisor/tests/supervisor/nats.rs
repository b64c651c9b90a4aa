use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use wanwright_supervisor::{Error, Login, Nats, NatsOptions, SyncInterval};

use crate::helper::Helper;
use crate::support::{TempDir, cache, is_alive, until};

async fn connect(nats: &Nats, login: &Login) -> async_nats::Client {
    let options =
        async_nats::ConnectOptions::with_user_and_password(login.user.clone(), login.password.clone());
    options.connect(nats.url()).await.unwrap()
}

async fn jetstream(nats: &Nats) -> jetstream::Context {
    jetstream::new(connect(nats, nats.login()).await)
}

#[tokio::test]
async fn a_restart_keeps_data_credentials_and_ports() {
    let dir = TempDir::new();
    let options = NatsOptions::new(dir.join("nats"), cache());
    let nats = Nats::start(&options).await.unwrap();
    assert!(nats.is_healthy().await);
    let environment = std::fs::read(format!("/proc/{}/environ", nats.child().id())).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let names: Vec<&str> =
        environment.split_terminator('\0').filter_map(|var| Some(var.split_once('=')?.0)).collect();
    assert_eq!(names, ["GOGC", "GOMEMLIMIT"], "and nothing of this process");
    let (url, system) = (nats.url_with_login(), nats.system_login().clone());
    let js = jetstream(&nats).await;
    js.create_stream(jetstream::stream::Config {
        name: "KEEP".into(),
        subjects: vec!["keep".into()],
        ..Default::default()
    })
    .await
    .unwrap();
    js.publish("keep", "this".into()).await.unwrap().await.unwrap();
    let begun = Instant::now();
    assert!(!nats.stop(Duration::from_secs(10)).await.killed);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    let nats = Nats::start(&options).await.unwrap();
    assert_eq!((nats.url_with_login(), nats.system_login()), (url, &system));
    let mut stream = jetstream(&nats).await.get_stream("KEEP").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    for secret in ["credentials.json", "nats.conf", "nats.log"] {
        let mode = std::fs::metadata(dir.join("nats").join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

#[tokio::test]
async fn the_system_account_is_another_one_and_strangers_are_refused() {
    let dir = TempDir::new();
    let options =
        NatsOptions { sync_interval: SyncInterval::Lazy, ..NatsOptions::new(dir.join("nats"), cache()) };
    let nats = Nats::start(&options).await.unwrap();
    let system = connect(&nats, nats.system_login()).await;
    system.request("$SYS.REQ.SERVER.PING", "".into()).await.unwrap();
    let ours = connect(&nats, nats.login()).await;
    assert!(ours.request("$SYS.REQ.SERVER.PING", "".into()).await.is_err());
    assert!(async_nats::connect(nats.url()).await.is_err());
}

#[tokio::test]
async fn it_ends_with_its_killed_parent_and_starts_again_at_once() {
    let dir = TempDir::new();
    let helper = Helper::start("nats", dir.join("nats"), None).await;
    helper.child.kill().await;
    Nats::start(&NatsOptions::new(dir.join("nats"), cache())).await.unwrap();
    until("the first server is gone", || !is_alive(helper.pids[0])).await;
}

#[tokio::test]
async fn a_port_taken_meanwhile_is_replaced() {
    let dir = TempDir::new();
    let options = NatsOptions::new(dir.join("nats"), cache());
    let nats = Nats::start(&options).await.unwrap();
    let url = nats.url();
    nats.stop(Duration::from_secs(10)).await;
    let _stranger = TcpListener::bind(url.trim_start_matches("nats://")).unwrap();
    let nats = Nats::start(&options).await.unwrap();
    assert_ne!(nats.url(), url);
}

#[tokio::test]
async fn a_server_that_refuses_its_configuration_says_so() {
    let dir = TempDir::new();
    let options =
        NatsOptions { extra: "no_such_setting: 1".into(), ..NatsOptions::new(dir.join("nats"), cache()) };
    let error = Nats::start(&options).await.unwrap_err();
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}
