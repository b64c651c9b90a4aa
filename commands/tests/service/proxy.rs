//! A way to the server that keeps back what the server says, or what it is told, from a moment of the test's choice on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Which way what is kept back goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToTheServer,
    FromTheServer,
}

/// What a proxy waits for, and whether it has met it.
struct Brake {
    text: &'static str,
    way: Way,
    is_armed: AtomicBool,
    met: Semaphore,
    go_on: Semaphore,
}

/// A proxy; it ends when it is dropped.
pub struct Proxy {
    /// The server as it is reached through the proxy.
    pub url: String,
    brake: Arc<Brake>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// A proxy before this server, which can keep back an answer that has this text.
    pub async fn new(server: &str, text: &'static str) -> Self {
        Self::open(server, text, Way::FromTheServer).await
    }

    /// A proxy before this server, which can keep back what it is told that has this text.
    pub async fn of_what_is_told(server: &str, text: &'static str) -> Self {
        Self::open(server, text, Way::ToTheServer).await
    }

    async fn open(server: &str, text: &'static str, way: Way) -> Self {
        let (before, host) = server.rsplit_once('@').expect("a login");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("{before}@{}", listener.local_addr().unwrap());
        let brake = Arc::new(Brake {
            text,
            way,
            is_armed: AtomicBool::new(false),
            met: Semaphore::new(0),
            go_on: Semaphore::new(0),
        });
        let (host, told) = (host.to_owned(), Arc::clone(&brake));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (mut said, mut to) = near.into_split();
                let (mut answers, mut questions) = TcpStream::connect(&host).await.unwrap().into_split();
                let told = Arc::clone(&told);
                connections.spawn(async move {
                    match told.way {
                        Way::ToTheServer => tokio::select! {
                            () = told.pass(said, &mut questions) => {}
                            _ = tokio::io::copy(&mut answers, &mut to) => {}
                        },
                        Way::FromTheServer => tokio::select! {
                            _ = tokio::io::copy(&mut said, &mut questions) => {}
                            () = told.pass(answers, &mut to) => {}
                        },
                    }
                });
            }
        });
        Self { url, brake, _serving: serving }
    }

    /// From now on: the next thing that has the text is kept back until [`Proxy::go_on`].
    pub fn arm(&self) {
        self.brake.is_armed.store(true, Ordering::SeqCst);
    }

    /// Waits until it is there and kept back.
    pub async fn met(&self) {
        let met = tokio::time::timeout(crate::world::LIMIT, self.brake.met.acquire()).await;
        met.expect("it was never said").unwrap().forget();
    }

    /// Lets it through.
    pub fn go_on(&self) {
        self.brake.go_on.add_permits(1);
    }
}

impl Brake {
    async fn pass(&self, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let (mut seen, mut bytes) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            seen.extend_from_slice(&bytes[..count]);
            let is_here = seen.windows(self.text.len()).any(|part| part == self.text.as_bytes());
            // It may come in two parts: what the next one may complete is looked at again.
            seen.drain(..seen.len().saturating_sub(self.text.len() - 1));
            if is_here && self.is_armed.swap(false, Ordering::SeqCst) {
                self.met.add_permits(1);
                self.go_on.acquire().await.unwrap().forget();
            }
            if to.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    }
}
