//! Connections that can be cut while an answer is written.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Pause after a failed accept, such as with no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Whole,
    /// Write the head and this many bytes of the body, then no more.
    BodyUpTo(usize),
    /// Write this many bytes, then no more.
    UpTo(usize),
}

/// The handle by which a call cuts the connection it came over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<Mutex<State>>);

impl Cut {
    /// Nothing of the answer is sent.
    pub(crate) fn before_answer(&self) {
        self.set(State::UpTo(0));
    }

    /// A part of the answer is sent: half of the body, or half of the status line when there is no body to halve.
    pub(crate) fn within_answer(&self, body_len: usize) {
        self.set(if body_len < 2 { State::UpTo(12) } else { State::BodyUpTo(body_len / 2) });
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn get(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().cut.clone()
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Cut,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Vectored writes stay off, so that an answer arrives here in order, head first.
impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = match self.cut.get() {
            State::Whole => return Pin::new(&mut self.stream).poll_write(cx, buf),
            State::UpTo(left) => left,
            State::BodyUpTo(left) => match buf.windows(4).position(|end| end == b"\r\n\r\n") {
                Some(end) => end + 4 + left,
                None => buf.len(),
            },
        };
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let part = &buf[..left.min(buf.len())];
        let written = Pin::new(&mut self.stream).poll_write(cx, part);
        if let Poll::Ready(Ok(written)) = written {
            self.cut.set(State::UpTo(left - written));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Debug)]
pub(crate) struct Listener(pub(crate) TcpListener);

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, peer)) => {
                    // Small answers must not wait for the caller's acknowledgement of earlier ones.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "setting TCP_NODELAY");
                    }
                    let cut = Cut::default();
                    return (Connection { stream, cut }, peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
