//! The numbers over HTTP, for Prometheus: `GET /metrics` (`metrics-listen`).
//!
//! Owns what one client may take: its connection ends after [`CONNECTION_TIME`] whatever it does, it may
//! send [`REQUEST_BYTES_MAX`], and [`CONNECTIONS_MAX`] are served at a time; others wait in the backlog. Must
//! never: change anything, or ask a worker.
//!
//! **Diagnostics**: none; what a client does wrong is answered or cut off.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::exposition::{Exposition, Form};

/// How long one connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(30);
/// Octets that one connection may send.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 16;
/// How long to rest when no connection can be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the runtime ends.
///
/// # Errors
/// When the socket cannot be used.
pub(super) async fn serve(
    socket: std::net::TcpListener,
    exposition: Arc<Exposition>,
) -> io::Result<()> {
    let listener = Bounded {
        listener: TcpListener::from_std(socket)?,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    };
    let router = Router::new().route("/metrics", get(metrics)).with_state(exposition);
    axum::serve(listener, router).await
}

async fn metrics(
    State(exposition): State<Arc<Exposition>>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let form = Form::wanted(accept.unwrap_or_default());
    ([(header::CONTENT_TYPE, form.content_type())], exposition.render(form))
}

/// Takes a connection when there is a place for it.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        loop {
            let place = self.places.clone().acquire_owned().await;
            let taken = self.listener.accept().await;
            if let (Ok(place), Ok((stream, address))) = (place, taken) {
                let end = Box::pin(sleep_until(Instant::now() + CONNECTION_TIME));
                let guest = Guest { stream, end, left: REQUEST_BYTES_MAX, _place: place };
                return (guest, address);
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that has an end.
struct Guest {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    left: usize,
    _place: OwnedSemaphorePermit,
}

impl Guest {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(context).is_ready()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        self.left = self.left.saturating_sub(count);
        read
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
