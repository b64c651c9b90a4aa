//! What stands between a plain Terraform's provider and the vendor: it adds the credential to each request, as whoever
//! runs such a loop would have it in the provider.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A relay that runs as long as this program.
pub async fn start(vendor: SocketAddr, token: String) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let token = token.clone();
            // A connection that ends badly is the client's to notice.
            tokio::spawn(async move { pass_on(stream, vendor, &token).await });
        }
    });
    Ok(address)
}

async fn pass_on(client: TcpStream, vendor: SocketAddr, token: &str) -> Result<()> {
    let vendor = TcpStream::connect(vendor).await?;
    for stream in [&client, &vendor] {
        stream.set_nodelay(true)?;
    }
    let (from_client, mut to_client) = client.into_split();
    let (mut from_vendor, mut to_vendor) = vendor.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_vendor, &mut to_client).await });
    let mut from_client = BufReader::new(from_client);
    while let Some(request) = request(&mut from_client, token).await? {
        to_vendor.write_all(&request).await?;
    }
    drop(to_vendor);
    back.await??;
    Ok(())
}

/// The next request, with the credential in it.
async fn request(from: &mut (impl AsyncBufReadExt + Unpin), token: &str) -> Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    if from.read_until(b'\n', &mut head).await? == 0 {
        return Ok(None);
    }
    head.extend(format!("authorization: Bearer {token}\r\n").into_bytes());
    let mut length = 0;
    loop {
        let start = head.len();
        anyhow::ensure!(from.read_until(b'\n', &mut head).await? > 0, "a request ended in its head");
        let line = String::from_utf8_lossy(&head[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().context("a length")?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let start = head.len();
    head.resize(start + length, 0);
    from.read_exact(&mut head[start..]).await?;
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_request_gets_the_credential_and_keeps_the_rest() {
        let sent = "POST /a HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n";
        let mut from = BufReader::new(sent.as_bytes());
        let mut passed = Vec::new();
        while let Some(one) = request(&mut from, "t").await.expect("a request") {
            passed.push(String::from_utf8(one).expect("text"));
        }
        assert_eq!(
            passed,
            [
                "POST /a HTTP/1.1\r\nauthorization: Bearer t\r\nhost: x\r\nContent-Length: 3\r\n\r\nabc",
                "GET /b HTTP/1.1\r\nauthorization: Bearer t\r\n\r\n",
            ]
        );
    }
}
