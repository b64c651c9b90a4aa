//! What stands between the roles and a server, and lets them down: a TCP proxy whose way can be cut, closed, slowed, or
//! made to swallow what goes in one direction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Most bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

/// How many chunks are under way in one direction of a connection before its sender has to wait.
const UNDER_WAY: usize = 64;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Everything passes.
    Open,
    /// Connections are ended, and new ones as soon as they are made.
    Closed,
    /// Connections are made and stay, and what goes in this direction is never heard of again.
    Swallows(Direction),
    /// Everything passes this much later.
    Slow(Duration),
}

/// The way, and how often every connection on it was ended.
#[derive(Debug, Clone, Copy)]
struct Now {
    way: Way,
    cuts: u64,
}

/// What went through.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    passed: AtomicU64,
    swallowed: AtomicU64,
}

/// The same, for a report.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Passed {
    /// Connections that were made to the server.
    pub connections: u64,
    /// Bytes that reached the other side.
    pub passed_bytes: u64,
    /// Bytes that did not.
    pub swallowed_bytes: u64,
}

/// A proxy. It ends when this is dropped.
pub struct Proxy {
    address: SocketAddr,
    now: watch::Sender<Now>,
    counts: Arc<Counts>,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own. `server` says where the server is at the moment, if it is anywhere.
    pub async fn start(server: impl Fn() -> Option<SocketAddr> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listening for a proxy")?;
        let address = listener.local_addr()?;
        let (now, way) = watch::channel(Now { way: Way::Open, cuts: 0 });
        let counts = Arc::new(Counts::default());
        let serving = tokio::spawn(serve(listener, Arc::new(server), way, Arc::clone(&counts)));
        Ok(Self { address, now, counts, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection that there is.
    pub fn cut(&self) {
        self.now.send_modify(|now| now.cuts += 1);
    }

    /// Changes the way. A connection that has lost bytes does not come back to life.
    pub fn set(&self, way: Way) {
        self.now.send_modify(|now| {
            let ends = way == Way::Closed || matches!(now.way, Way::Swallows(_));
            *now = Now { way, cuts: now.cuts + u64::from(ends) };
        });
    }

    /// What went through until now.
    pub fn passed(&self) -> Passed {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Passed {
            connections: of(&self.counts.connections),
            passed_bytes: of(&self.counts.passed),
            swallowed_bytes: of(&self.counts.swallowed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    listener: TcpListener,
    server: Arc<impl Fn() -> Option<SocketAddr> + Send + Sync + 'static>,
    way: watch::Receiver<Now>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (server, way, counts) = (Arc::clone(&server), way.clone(), Arc::clone(&counts));
                connections.spawn(async move { connection(client, &*server, way, &counts).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, for as long as both sides and the way let it live.
async fn connection(
    client: TcpStream,
    server: &(impl Fn() -> Option<SocketAddr> + Send + Sync),
    way: watch::Receiver<Now>,
    counts: &Counts,
) {
    let begun = *way.borrow();
    if begun.way == Way::Closed {
        return;
    }
    let Some(address) = server() else { return };
    let Ok(server) = TcpStream::connect(address).await else { return };
    counts.connections.fetch_add(1, Ordering::Relaxed);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut ends = way.clone();
    tokio::select! {
        () = pass(from_client, to_server, Direction::ToServer, way.clone(), counts) => {}
        () = pass(from_server, to_client, Direction::ToClient, way, counts) => {}
        _ = ends.wait_for(|now| now.cuts != begun.cuts) => {}
    }
}

/// Passes on what comes in one direction until it ends.
async fn pass(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    direction: Direction,
    way: watch::Receiver<Now>,
    counts: &Counts,
) {
    let (queue, queued) = mpsc::channel(UNDER_WAY);
    tokio::join!(take(from, queue, direction, way, counts), give(queued, to, counts));
}

async fn take(
    mut from: impl AsyncRead + Unpin,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    direction: Direction,
    way: watch::Receiver<Now>,
    counts: &Counts,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let delay = match way.borrow().way {
            Way::Swallows(swallowed) if swallowed == direction => {
                counts.swallowed.fetch_add(length as u64, Ordering::Relaxed);
                continue;
            }
            Way::Slow(delay) => delay,
            _ => Duration::ZERO,
        };
        if queue.send((Instant::now() + delay, chunk[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn give(
    mut queued: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: impl AsyncWrite + Unpin,
    counts: &Counts,
) {
    while let Some((due, chunk)) = queued.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
        counts.passed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longest wait for what has to happen.
    const SOON: Duration = Duration::from_secs(20);

    /// A server that says everything back, and a proxy before it.
    async fn world() -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Proxy::start(move || Some(address)).await.expect("a proxy")
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.expect("a connection")
    }

    /// What comes back of a byte; none when the connection has ended.
    async fn echo(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_u8(byte).await.ok()?;
        tokio::time::timeout(SOON, stream.read_u8()).await.expect("an answer or an end").ok()
    }

    /// Waits until so many bytes were swallowed.
    async fn swallowed(proxy: &Proxy, bytes: u64) {
        let wait = async {
            while proxy.passed().swallowed_bytes < bytes {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, wait).await.expect("bytes that are swallowed");
    }

    #[tokio::test]
    async fn connections_are_cut_and_refused_and_made_again() {
        let proxy = world().await;
        let (mut one, mut two) = (client(&proxy).await, client(&proxy).await);
        assert_eq!((echo(&mut one, 1).await, echo(&mut two, 2).await), (Some(1), Some(2)));
        proxy.cut();
        assert_eq!((echo(&mut one, 3).await, echo(&mut two, 4).await), (None, None));
        let mut again = client(&proxy).await;
        assert_eq!(echo(&mut again, 5).await, Some(5));
        proxy.set(Way::Closed);
        assert_eq!(echo(&mut again, 6).await, None);
        assert_eq!(echo(&mut client(&proxy).await, 7).await, None);
        proxy.set(Way::Open);
        assert_eq!(echo(&mut client(&proxy).await, 8).await, Some(8));
        assert_eq!(proxy.passed().connections, 4);
    }

    #[tokio::test]
    async fn what_is_swallowed_never_comes_and_its_connection_ends_afterwards() {
        for (direction, reaches_server) in [(Direction::ToServer, 0), (Direction::ToClient, 1)] {
            let proxy = world().await;
            let mut stream = client(&proxy).await;
            assert_eq!(echo(&mut stream, 1).await, Some(1));
            proxy.set(Way::Swallows(direction));
            stream.write_u8(2).await.expect("a connection that looks alive");
            swallowed(&proxy, 1).await;
            assert_eq!(proxy.passed().passed_bytes, 2 + reaches_server);
            proxy.set(Way::Open);
            assert_eq!(echo(&mut stream, 3).await, None, "a stream with a hole is none");
            assert_eq!(echo(&mut client(&proxy).await, 4).await, Some(4));
        }
    }

    #[tokio::test]
    async fn what_is_slow_comes_whole_and_late() {
        let proxy = world().await;
        let mut stream = client(&proxy).await;
        let delay = Duration::from_millis(50);
        proxy.set(Way::Slow(delay));
        let began = Instant::now();
        assert_eq!(echo(&mut stream, 1).await, Some(1));
        assert!(began.elapsed() >= 2 * delay, "once in each direction");
        proxy.set(Way::Open);
        assert_eq!(echo(&mut stream, 2).await, Some(2), "nothing was lost");
    }
}
