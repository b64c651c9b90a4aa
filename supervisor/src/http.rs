//! One HTTP request, to a server of ours on loopback.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Is the answer to `GET path` a 200? Errors and silence are "no".
pub(crate) async fn is_ok(port: u16, path: &str) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(2), status_line(port, path)).await;
    matches!(answer, Ok(Ok(line)) if line.split(' ').nth(1) == Some("200"))
}

async fn status_line(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}
