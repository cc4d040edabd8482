//! The socket: connections are counted, slow ones are closed, and a stop lets requests under way finish.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::base::Span;
use crate::exec::Engine;

use super::error::ApiError;
use super::options::ServerOptions;
use super::stall::Stall;
use super::{App, guard, routes};

/// Most bytes of a request's line and headers, and of a piece of its body.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most headers of a request.
const HEADERS_MOST: usize = 100;
/// How long accepting rests after the operating system refused it, such as for want of descriptors.
const ACCEPT_REST: Span = Span(100);

/// A connection while its requests are answered.
type Connection<S> = http1::Connection<TokioIo<Stall<TcpStream>>, S>;

/// Serves the API on `listener` until `stop` is ready; then takes no more connections, ends the streams, and lets
/// requests under way finish within `stop_grace`.
///
/// # Errors
/// `InvalidInput` where the options are not safe at the listener's address; else what the listener's address says.
pub async fn serve(listener: TcpListener, engine: Engine, options: ServerOptions, stop: impl Future) -> io::Result<()> {
    let address = listener.local_addr()?;
    options.check(address).map_err(|missing| io::Error::new(io::ErrorKind::InvalidInput, missing))?;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(options.header_timeout.std()).max_buf_size(BUFFER_BYTES).max_headers(HEADERS_MOST);
    let places = options.connections.max(1);
    let room = Arc::new(Semaphore::new(places as usize));
    let (grace, header_timeout, write_timeout) = (options.stop_grace, options.header_timeout, options.write_timeout);
    let app = App::new(engine, options, address);
    let routes = TowerToHyperService::new(routes(&app));
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            // The permit comes first: beyond the limit, connections wait in the operating system's queue.
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, accept(&listener).await)
        };
        let (permit, connection) = tokio::select! {
            next = next => next,
            _ = &mut stop => break,
        };
        let connection = TokioIo::new(Stall::new(connection, write_timeout));
        let stopping = app.stopping.subscribe();
        let (app, routes) = (Arc::clone(&app), routes.clone());
        let answer = move |request| {
            let answer = guard(Arc::clone(&app), routes.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        };
        let connection = builder.serve_connection(connection, service_fn(answer));
        tokio::spawn(async move {
            let _permit = permit;
            converse(connection, stopping, header_timeout).await;
        });
    }
    drop(listener);
    app.stopping.send_replace(true);
    if tokio::time::timeout(grace.std(), room.acquire_many(places)).await.is_err() {
        tracing::warn!("requests were still under way after {grace}; the server stops without them");
    }
    Ok(())
}

/// Answers a connection's requests until either side has enough.
async fn converse<S>(mut connection: Connection<S>, mut stopping: watch::Receiver<bool>, header_timeout: Span)
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let served = tokio::select! {
        served = &mut connection => Some(served),
        // A server that is gone stops, too.
        _ = stopping.wait_for(|stopping| *stopping) => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let Err(error) = served else { return };
    tracing::debug!(%error, "a connection ended early");
    if !error.is_timeout() {
        return;
    }
    let parts = connection.into_parts();
    // hyper says nothing to one whose headers are late. A client that has begun no request would take an answer for that
    // of its next one, so only half a request gets one.
    if parts.read_buf.is_empty() {
        return;
    }
    let late = ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("the request's headers did not arrive within {header_timeout}"));
    let mut connection = parts.io.into_inner();
    // Whoever has hung up meanwhile needs no answer.
    let _ = connection.write_all(&late.last_words()).await;
    let _ = connection.shutdown().await;
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Answers are small; one that waits for more to send only adds latency. Without it all works, too.
                let _ = connection.set_nodelay(true);
                return connection;
            }
            // The other side gave up before it was its turn.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST.std()).await;
            }
        }
    }
}
