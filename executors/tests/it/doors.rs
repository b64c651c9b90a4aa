//! There is no way to any other host through the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::World;

/// Sends bytes as they are and answers what came back.
async fn send(to: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What is not answered at all is closed, or was not understood.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_form_of_a_request_reaches_another_host() {
    let world = World::new(50).await;
    let other = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let evil = other.local_addr().unwrap().to_string();
    let reached = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reached);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nevil")
                .await;
        }
    });
    // The listener would notice.
    assert!(send(&evil, "x").await.ends_with("evil"));
    assert_eq!(reached.swap(0, Ordering::SeqCst), 1);

    let (_, opened) = world.run("edge-01");
    let base = opened.base_url().strip_prefix("http://").unwrap();
    let (host, run) = base.split_at(base.find('/').unwrap());
    // Request line, host header, more headers. What the vendor does with what passes is its own affair.
    let forms = [
        (format!("GET http://{evil}/ HTTP/1.1"), host, ""),
        (format!("GET http://{evil}{run}/v1/sites HTTP/1.1"), host, ""),
        (format!("GET http://{host}{run}/v1/sites HTTP/1.1"), host, ""),
        (format!("GET https://{evil}/ HTTP/1.1"), host, ""),
        (format!("CONNECT {evil} HTTP/1.1"), host, ""),
        (format!("CONNECT {evil} HTTP/1.1"), &evil, ""),
        (format!("GET //{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}//{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/http://{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/@{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}@{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}:80@{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/\\{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}\\@{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/..//{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/../../{evil} HTTP/1.1"), host, ""),
        (format!("GET {run}/%2e%2e/%2e%2e//{evil} HTTP/1.1"), host, ""),
        (format!("GET {run}/..%2f..%2f/{evil} HTTP/1.1"), host, ""),
        (format!("GET {run}/%2f%2f{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/%5c%5c{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/%252f%252f{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/v1/sites?url=http://{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/v1/sites#@{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/v1/sites HTTP/1.1"), &evil, ""),
        (format!("GET {run}/v1/sites HTTP/1.1"), host, "host: EVIL\r\n"),
        (format!("GET {run}/v1/sites HTTP/1.1"), host, "x-forwarded-host: EVIL\r\nforwarded: host=EVIL\r\n"),
        (
            format!("GET {run}/v1/sites HTTP/1.1"),
            host,
            "x-original-url: http://EVIL/\r\nx-rewrite-url: http://EVIL/\r\n",
        ),
        (format!("GET {run}/v1/sites HTTP/1.1"), host, "proxy-authorization: x\r\nvia: 1.1 EVIL\r\n"),
        (format!("GET {run}/v1/sites HTTP/1.1"), host, "upgrade: http://EVIL\r\nconnection: upgrade\r\n"),
        (format!("OPTIONS http://{evil} HTTP/1.1"), host, ""),
        (format!("TRACE {run}/v1/sites HTTP/1.1"), host, ""),
        (format!("GET {evil} HTTP/1.1"), host, ""),
        (format!("GET ftp://{evil}/ HTTP/1.1"), host, ""),
        (format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET http://{evil}/ HTTP/1.1"), host, ""),
        (format!("GET {run}/ HTTP/1.1\r\n\r\nGET http://{evil}/ HTTP/1.1"), host, ""),
    ];
    let mut sending = tokio::task::JoinSet::new();
    for (line, named, more) in forms {
        let more = more.replace("EVIL", &evil);
        let request = format!("{line}\r\nhost: {named}\r\n{more}connection: close\r\n\r\n");
        let host = host.to_owned();
        sending.spawn(async move { (send(&host, &request).await, request) });
    }
    while let Some(sent) = sending.join_next().await {
        let (answer, request) = sent.unwrap();
        assert!(!answer.contains("evil"), "{request}: {answer}");
        let foreign = !request.contains(&format!("host: {host}\r\n"));
        assert!(!foreign || !answer.starts_with("HTTP/1.1 200"), "{request}: {answer}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
    assert_eq!(
        world.stats().await.totals.unauthorized,
        0,
        "what went out went to the vendor, with the credential"
    );
}
