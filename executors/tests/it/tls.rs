//! Connections to vendors are encrypted and verified, by the authorities that the folder names, and through its proxy.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use wanwright_vendors::Refreshed;

use crate::world::{Process, World};

/// An authority's certificate in this file, and what a server shows that it signed.
fn authority(file: &Path, server: &str) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(vec![server.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let certificate = CertificateDer::from_pem_slice(signed.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A vendor behind TLS that answers one call for each connection: its port, and how many it heard.
async fn vendor(tls: TlsAcceptor) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            let mut request = vec![0; 4096];
            let Ok(1..) = stream.read(&mut request).await else { continue };
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, heard)
}

/// A proxy that leads every `CONNECT` with this login, if it wants one, to this port: its own port, and what it was asked.
async fn proxy(to: u16, login: Option<&'static str>) -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::default());
    let noted: Arc<std::sync::Mutex<Vec<String>>> = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            noted.lock().unwrap().push(request.lines().next().unwrap_or_default().to_owned());
            let given = request.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
            });
            let basic = login.map(|login| format!("Basic {}", STANDARD.encode(login)));
            if given != basic {
                let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(refused).await.unwrap();
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move {
                let mut vendor = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut vendor).await;
            });
        }
    });
    (port, asked)
}

/// The status of a call to a vendor at this URL, whose folder says this beside its budget.
async fn called(world: &World, url: &str) -> u16 {
    let process = world.process_to(url).await;
    let (status, _) = answered(world, &process).await;
    process.stop.cancel();
    status
}

/// Status and body of a call.
async fn answered(world: &World, process: &Process) -> (u16, String) {
    let run = process.gateway.open(World::context("edge-01"));
    let answer = world.http.get(format!("{}/x", run.base_url())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn budget(more: &str) -> String {
    format!("per_second = 50\nburst = 50\n{more}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_authority_of_the_folder_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (dir.path().join("ours.pem"), dir.path().join("others.pem"));
    let (port, heard) = vendor(authority(&ours, "localhost")).await;
    let (strange, strange_heard) = vendor(authority(&others, "localhost")).await;
    let (misnamed, misnamed_heard) = vendor(authority(&dir.path().join("third.pem"), "elsewhere")).await;
    let world = World::with(&budget(&format!("[tls]\nca_file = \"{}\"\n", ours.display())), 50, 50).await;
    assert_eq!(called(&world, &format!("https://localhost:{port}")).await, 200);
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    for (port, heard) in [(strange, strange_heard), (misnamed, misnamed_heard)] {
        assert_eq!(called(&world, &format!("https://localhost:{port}")).await, 502);
        assert_eq!(heard.load(Ordering::SeqCst), 0, "nothing was said to it, the credential least of all");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_takes_the_place_of_another_is_believed_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (port, heard) = vendor(authority(&file("old.pem"), "localhost")).await;
    let (renewed, renewed_heard) = vendor(authority(&file("new.pem"), "localhost")).await;
    let put = |name: &str, at: &str| std::fs::copy(file(name), file(at)).map(drop).unwrap();
    put("old.pem", "ours.pem");
    let said = |name: &str| format!("ca_file = \"{}\"", file(name).display());
    let world = World::with(&budget(&format!("[tls]\n{}\n", said("ours.pem"))), 50, 50).await;
    // Two processes, one to each: the vendor before and after it has another certificate.
    let vendors = world.vendors();
    let old = world.process_of(&vendors, &format!("https://localhost:{port}")).await;
    let new = world.process_of(&vendors, &format!("https://localhost:{renewed}")).await;
    let call = |process| answered(&world, process);
    let counts = || (heard.load(Ordering::SeqCst), renewed_heard.load(Ordering::SeqCst));
    assert_eq!((call(&old).await.0, call(&new).await.0, counts()), (200, 502, (1, 0)));
    put("new.pem", "ours.pem");
    assert_eq!((call(&old).await.0, call(&new).await.0, counts()), (502, 200, (1, 1)));
    // Without any nobody is believed, and it is said what is wrong.
    std::fs::write(file("ours.pem"), "").unwrap();
    let (status, body) = call(&new).await;
    assert_eq!((status, counts()), (503, (1, 1)), "{body}");
    assert!(body.contains("there is no certificate in") && body.contains("ours.pem"), "{body}");
    // The folder may name another file.
    world.write_in_folder(&said("ours.pem"), &said("old.pem"));
    assert!(matches!(vendors.refresh(), Refreshed::Swapped(_)));
    assert_eq!((call(&old).await.0, counts()), (200, (2, 1)));
    old.stop.cancel();
    new.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_asked_for_the_vendor_and_sees_no_call() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours.pem");
    let (port, heard) = vendor(authority(&ours, "vendor.example")).await;
    let (proxy, asked) = proxy(port, None).await;
    let folder = format!("[tls]\nca_file = \"{}\"\n", ours.display());
    let world = World::with_proxy(&budget(&folder), &format!("http://127.0.0.1:{proxy}")).await;
    let vendors = world.vendors();
    let process = world.process_of(&vendors, "https://vendor.example").await;
    assert_eq!(answered(&world, &process).await.0, 200);
    assert_eq!(*asked.lock().unwrap(), ["CONNECT vendor.example:443 HTTP/1.1"]);
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    // Another one, as soon as the folder says so.
    let (other, asked_other) = self::proxy(port, None).await;
    world.write_in_folder(&format!("127.0.0.1:{proxy}"), &format!("127.0.0.1:{other}"));
    assert!(matches!(vendors.refresh(), Refreshed::Swapped(_)));
    assert_eq!(answered(&world, &process).await.0, 200);
    assert_eq!((asked.lock().unwrap().len(), asked_other.lock().unwrap().len()), (1, 1));
    process.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_login_is_read_where_the_folder_says_and_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, login) = (dir.path().join("ours.pem"), dir.path().join("login"));
    let (port, heard) = vendor(authority(&ours, "vendor.example")).await;
    let (proxy, asked) = proxy(port, Some("wan:s3cret pass")).await;
    std::fs::write(&login, "wan:another\n").unwrap();
    let (ours, file) = (ours.display(), login.display());
    let folder = format!("[tls]\nca_file = \"{ours}\"\n[proxy_login]\nfile = \"{file}\"\n");
    let world = World::with_proxy(&budget(&folder), &format!("http://127.0.0.1:{proxy}")).await;
    let process = world.process_to("https://vendor.example").await;
    let call = || answered(&world, &process);
    let (status, body) = call().await;
    assert_eq!((status, heard.load(Ordering::SeqCst)), (502, 0), "{body}");
    assert!(!body.contains("another"), "{body}");
    std::fs::write(&login, "wan:s3cret pass\n").unwrap();
    assert_eq!(call().await.0, 200);
    assert_eq!((heard.load(Ordering::SeqCst), asked.lock().unwrap().len()), (1, 2));
    process.stop.cancel();
}

/// Environment variables belong to a whole process, so this test runs itself again in one of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environments_proxy_counts_where_the_folder_says_so_only() {
    const INNER: &str = "WANWRIGHT_TEST_PROXY";
    let dir = tempfile::tempdir().unwrap();
    if let Ok(facts) = std::env::var(INNER) {
        let mut facts = facts.split(' ');
        let mut next = || facts.next().unwrap().to_owned();
        let (ours, port) = (next(), next());
        let tls = format!("[tls]\nca_file = \"{ours}\"\n");
        let told = World::with_proxy(&budget(&tls), "environment").await;
        assert_eq!(called(&told, "https://vendor.example").await, 200);
        let direct = format!("https://localhost:{port}");
        assert_eq!(called(&told, &direct).await, 502, "NO_PROXY: asked itself, whose name is another");
        let untold = World::with(&budget(&tls), 50, 50).await;
        assert_eq!(called(&untold, "https://vendor.example").await, 502, "there is no such host");
        return;
    }
    let ours = dir.path().join("ours.pem");
    let (port, heard) = vendor(authority(&ours, "vendor.example")).await;
    let (proxy, asked) = proxy(port, Some("wan:s3cret")).await;
    let name = "tls::the_environments_proxy_counts_where_the_folder_says_so_only";
    let run = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(INNER, format!("{} {port}", ours.display()))
        .env("HTTPS_PROXY", format!("http://wan:s3cret@127.0.0.1:{proxy}"))
        .env("NO_PROXY", "localhost,127.0.0.1")
        .output();
    let run = run.await.unwrap();
    let said = [run.stdout, run.stderr].concat();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&said));
    assert_eq!(*asked.lock().unwrap(), ["CONNECT vendor.example:443 HTTP/1.1"]);
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}
