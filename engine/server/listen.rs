//! The socket: connections are counted, slow ones are closed, and a stop lets requests under way finish.

use std::future::Future;
use std::io;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::base::Span;
use crate::exec::Engine;

use super::options::ServerOptions;
use super::stall::Stall;
use super::{App, routes};

/// Most bytes of a request's line and headers, and of a piece of its body.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most headers of a request.
const HEADERS_MOST: usize = 100;
/// How long accepting rests after the operating system refused it, such as for want of descriptors.
const ACCEPT_REST: Span = Span(100);

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
    let room = Arc::new(Semaphore::new(options.connections.max(1)));
    let (grace, write_timeout) = (options.stop_grace, options.write_timeout);
    let app = App::new(engine, options, address);
    let service = TowerToHyperService::new(routes(Arc::clone(&app)));
    let graceful = GracefulShutdown::new();
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
        let serving = graceful.watch(builder.serve_connection(connection, service.clone()));
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    app.stopping.send_replace(true);
    if tokio::time::timeout(grace.std(), graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way after {grace}; the server stops without them");
    }
    Ok(())
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
