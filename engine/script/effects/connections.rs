//! The connections of a thread's HTTP calls, kept for the next call of the same origin.
//!
//! A connection is no task of its own: whoever has it drives it while it waits for what comes over it. So an answer wakes the call that
//! waits for it, and nobody else; a client with a task for each connection wakes three of them one after another.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::apart::Task;
use super::request::Guarded;

/// How often the connections that nobody uses are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A connection that is looked at so often without being used is closed: nobody has wanted it for ten to fifteen seconds.
const LOOKS: u8 = 3;

/// What a call sends.
pub(super) type Sent = hyper::Request<Full<Bytes>>;
/// What opens connections.
pub(super) type Connector = HttpsConnector<HttpConnector<Guarded>>;
/// Why there is no answer.
pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

type Driver = http1::Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>;

/// Sends requests over the connections that it keeps. A clone keeps the same ones.
#[derive(Clone)]
pub(super) struct Client {
    connector: Connector,
    kept: Arc<Kept>,
}

impl Client {
    /// A client that keeps at most so many connections to one origin.
    pub(super) fn new(connector: Connector, most: usize) -> Client {
        Client { connector, kept: Arc::new(Kept { most, connections: Mutex::default() }) }
    }

    /// Sends a request to an origin, as `https://host:port`; gives the answer's head, its body to be read by way of the connection, and
    /// the connection.
    pub(super) async fn send(&self, origin: String, mut request: Sent) -> Result<(Response<Incoming>, Lent), Error> {
        while let Some(mut connection) = self.kept.take(&origin) {
            match connection.send(request).await {
                Ok(answer) => return Ok((answer, Lent { connection, origin, kept: Arc::clone(&self.kept) })),
                // The other side has closed it meanwhile, and nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut connection = self.connect(&origin).await?;
        let answer = connection.send(request).await.map_err(|error| error.into_error())?;
        Ok((answer, Lent { connection, origin, kept: Arc::clone(&self.kept) }))
    }

    /// Opens a connection, in a task of its own: to agree on keys takes more of a stack than a script's should keep.
    async fn connect(&self, origin: &str) -> Result<Connection, Error> {
        let uri: Uri = origin.parse()?;
        let mut connector = self.connector.clone();
        let mut opened = Task(tokio::spawn(async move {
            let stream = connector.call(uri).await?;
            let (sender, driver) = http1::handshake(stream).await?;
            Ok::<_, Error>(Connection { sender, driver: Some(Box::pin(driver)) })
        }));
        (&mut opened.0).await?
    }
}

/// A connection, on which something happens only while it is driven.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once it is closed.
    driver: Option<Pin<Box<Driver>>>,
}

impl Connection {
    /// Goes as far as it can at the moment.
    fn drive(&mut self, context: &mut Context<'_>) {
        let is_over = self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready());
        if is_over {
            // How it ended is told to whoever waits for something from it.
            self.driver = None;
        }
    }

    /// Sends a request, and waits for the head of its answer. An error has the request in it where nothing of it was sent.
    async fn send(&mut self, request: Sent) -> Result<Response<Incoming>, Box<TrySendError<Sent>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|context| {
            self.drive(context);
            answer.as_mut().poll(context).map_err(Box::new)
        })
        .await
    }

    /// Whether it can take another request.
    fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        if !self.sender.is_ready() {
            // It has given all of the answer, but has not gone on since.
            self.drive(context);
        }
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// A connection whose answer is being read. It is closed where it is not given back.
pub(super) struct Lent {
    connection: Connection,
    origin: String,
    kept: Arc<Kept>,
}

impl Lent {
    /// The next part of the answer's body.
    pub(super) async fn frame(&mut self, body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        poll_fn(|context| {
            // A body asks for its next part when it is polled, and the connection reads it when it is driven.
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                return Poll::Ready(frame);
            }
            self.connection.drive(context);
            Pin::new(&mut *body).poll_frame(context)
        })
        .await
    }

    /// Keeps the connection for the next call, where it can take one: the body has been read, or was so short that it is here.
    pub(super) async fn give_back(mut self) {
        if poll_fn(|context| Poll::Ready(self.connection.is_ready(context))).await {
            Kept::keep(&self.kept, self.origin, self.connection);
        }
    }
}

/// The connections that nobody uses at the moment.
struct Kept {
    /// The most that are kept to one origin.
    most: usize,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    by_origin: HashMap<String, Vec<Idle>>,
    /// Whether somebody looks at them from time to time.
    are_tended: bool,
}

struct Idle {
    connection: Connection,
    /// How often it was looked at.
    looks: u8,
}

impl Kept {
    fn locked(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that was used last, which is the least likely to have been closed.
    fn take(&self, origin: &str) -> Option<Connection> {
        self.locked().by_origin.get_mut(origin)?.pop().map(|idle| idle.connection)
    }

    fn keep(kept: &Arc<Kept>, origin: String, connection: Connection) {
        let mut connections = kept.locked();
        let idle = connections.by_origin.entry(origin).or_default();
        if idle.len() < kept.most {
            idle.push(Idle { connection, looks: 0 });
        }
        if !std::mem::replace(&mut connections.are_tended, true) {
            drop(connections);
            tokio::spawn(Tender(Arc::downgrade(kept)).tend());
        }
    }

    /// Closes those that nobody has wanted for long, and those that the other side has closed; whether any are left.
    fn look(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut connections = self.locked();
        connections.by_origin.retain(|_, idle| {
            idle.retain_mut(|idle| {
                idle.looks += 1;
                idle.connection.drive(&mut context);
                idle.looks < LOOKS && idle.connection.driver.is_some()
            });
            !idle.is_empty()
        });
        !connections.by_origin.is_empty()
    }
}

/// Whoever looks at the connections that nobody uses, as long as there are some. It ends with its runtime, too, as they do.
struct Tender(Weak<Kept>);

impl Tender {
    async fn tend(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if !self.0.upgrade().is_some_and(|kept| kept.look()) {
                return;
            }
        }
    }
}

impl Drop for Tender {
    fn drop(&mut self) {
        if let Some(kept) = self.0.upgrade() {
            kept.locked().are_tended = false;
        }
    }
}
