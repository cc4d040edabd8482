//! PostgreSQL servers. Parameters go as text, which the server reads as the type that it wants, so nothing is lost on the way.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::super::apart::{self, Outcome};
use super::cell::Cell;
use super::{CONNECTIONS_MOST, Found, Refused, Room, leaves_something_behind};
use crate::base::{alloc, hex};
use crate::script::attempt::Attempt;
use crate::script::error::Fault;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Pool {
    url: String,
    password: Option<String>,
    idle: Mutex<Vec<Client>>,
    places: Semaphore,
    /// Made at the first connection: it reads the certificates that the system trusts.
    tls: OnceLock<Tls>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Tells the server that nobody waits for a statement any more.
struct Breaker(Option<(CancelToken, Option<Tls>)>);

impl Drop for Breaker {
    fn drop(&mut self) {
        if let Some((token, tls)) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Where this does not reach it, the statement ends with its connection.
            runtime.spawn(async move {
                match tls {
                    Some(tls) => token.cancel_query(tls).await,
                    None => token.cancel_query(NoTls).await,
                }
            });
        }
    }
}

impl Pool {
    pub(super) fn new(url: String, password: Option<String>) -> Pool {
        Pool { url, password, idle: Mutex::default(), places: Semaphore::new(CONNECTIONS_MOST), tls: OnceLock::new() }
    }

    /// None where the URL wants none: then no certificates are needed either.
    fn tls(&self, config: &Config) -> Result<Option<Tls>, Refused> {
        if config.get_ssl_mode() == SslMode::Disable {
            return Ok(None);
        }
        if let Some(tls) = self.tls.get() {
            return Ok(Some(tls.clone()));
        }
        let made = Tls::new()?;
        Ok(Some(self.tls.get_or_init(|| made).clone()))
    }

    pub(super) fn ask(
        self: &Arc<Pool>,
        attempt: &Attempt,
        what: &str,
        sql: &str,
        cells: Vec<Cell>,
    ) -> Result<Outcome<Result<Found, Refused>>, Fault> {
        // What goes to the task is freed there, so it is not the script's.
        let (pool, sql) = (Arc::clone(self), alloc::uncounted(|| sql.to_owned()));
        apart::task(attempt, what, None, async move {
            // It is never closed.
            let _place = pool.places.acquire().await;
            pool.perform(&sql, &cells).await
        })
    }

    async fn perform(&self, sql: &str, cells: &[Cell]) -> Result<Found, Refused> {
        let kept = loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match kept {
                Some(client) if client.is_closed() => {}
                other => break other,
            }
        };
        let config = self.config()?;
        let tls = self.tls(&config)?;
        let client = match kept {
            Some(client) => client,
            None => connect(&config, tls.clone()).await?,
        };
        let mut breaker = Breaker(Some((client.cancel_token(), tls)));
        // Where rows are left that nobody wants, the server is told so, and the connection is given up.
        let found = perform(&client, sql, cells).await?;
        breaker.0 = None;
        if !client.is_closed() && !leaves_something_behind(sql) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
        found
    }

    fn config(&self) -> Result<Config, Refused> {
        let mut config = Config::from_str(&self.url).map_err(|error| Refused::last(said(&error)))?;
        if let Some(password) = &self.password {
            config.password(password);
        }
        config.connect_timeout(PATIENCE).application_name("stepwell");
        Ok(config)
    }
}

async fn connect(config: &Config, tls: Option<Tls>) -> Result<Client, Refused> {
    // A connection ends when its client is dropped; what goes wrong with it, the client's next statement tells.
    let connecting = async {
        Ok(match tls {
            Some(tls) => {
                let (client, connection) = config.connect(tls).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        })
    };
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(connected) => connected.map_err(|error: tokio_postgres::Error| refused(&error)),
        Err(_) => Err(Refused::again("the server does not answer")),
    }
}

/// What the server answers: its rows, or that it refuses.
///
/// # Errors
/// Where it is given up with rows left.
async fn perform(client: &Client, sql: &str, cells: &[Cell]) -> Result<Result<Found, Refused>, Refused> {
    let told = |error: &tokio_postgres::Error| Ok(Err(refused(error)));
    let statement = match client.prepare(sql).await {
        Ok(statement) => statement,
        Err(error) => return told(&error),
    };
    if statement.params().len() != cells.len() {
        let wanted = statement.params().len();
        return Ok(Err(Refused::last(format!("the statement has {wanted} parameters, and {} are given", cells.len()))));
    }
    for column in statement.columns() {
        if !readable(column.type_()) {
            let message = format!("the column `{}` is of type {}, which is not read", column.name(), column.type_());
            return Ok(Err(Refused::last(format!("{message}: write {}::text", column.name()))));
        }
    }
    let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    let mut found = Found { columns, ..Found::default() };
    let stream = match client.query_raw(&statement, cells).await {
        Ok(stream) => stream,
        Err(error) => return told(&error),
    };
    let mut stream = std::pin::pin!(stream);
    let mut room = Room::default();
    while let Some(row) = futures_util::StreamExt::next(&mut stream).await {
        let row = match row {
            Ok(row) => row,
            Err(error) => return told(&error),
        };
        let cells: Result<Vec<Cell>, Refused> = (0..found.columns.len())
            .map(|at| row.try_get::<_, Option<Cell>>(at).map(|cell| cell.unwrap_or(Cell::Null)).map_err(|error| refused(&error)))
            .collect();
        let cells = cells?;
        room.take(found.rows.len() + 1, &cells)?;
        found.rows.push(cells);
    }
    found.changed = stream.rows_affected().unwrap_or_default();
    Ok(Ok(found))
}

/// What the server says, with its advice. Network trouble, and what the server calls temporary, may pass.
fn refused(error: &tokio_postgres::Error) -> Refused {
    let Some(told) = error.as_db_error() else {
        return Refused { message: said(error), is_last: error.source().is_some_and(|cause| cause.is::<Unfit>()) };
    };
    let mut message = told.message().to_owned();
    for (word, more) in [("", told.detail()), ("hint: ", told.hint())] {
        if let Some(more) = more {
            message.push_str(&format!(" ({word}{more})"));
        }
    }
    let code = told.code().code();
    // Connection, lack of resources, operator's intervention, transaction rolled back by a conflict, lock not available.
    let again = ["08", "53", "57", "40", "58"].iter().any(|class| code.starts_with(class)) || code == "55P03";
    Refused { message: format!("{message} [{code}]"), is_last: !again }
}

fn said(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// A value that a type of the database cannot take, or one of its that we do not read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unfit(String);

impl ToSql for Cell {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if *self == Cell::Null {
            return Ok(IsNull::Yes);
        }
        let text = match (self, kind.kind()) {
            (Cell::Json(json), Kind::Array(inner)) => array_text(json, inner)?,
            _ => self.text(kind)?,
        };
        if text.contains('\0') {
            return Err(Unfit("a text with a NUL character in it".to_owned()).into());
        }
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

impl Cell {
    /// As the server reads it for this type.
    fn text(&self, kind: &Type) -> Result<String, Unfit> {
        let is_json = matches!(*kind, Type::JSON | Type::JSONB);
        Ok(match self {
            Cell::Flag(flag) => flag.to_string(),
            Cell::Whole(whole) => whole.to_string(),
            Cell::Float(float) if float.is_finite() || !is_json => float.to_string(),
            Cell::Text(text) if is_json => crate::script::value::quoted(text),
            Cell::Text(text) | Cell::Json(text) | Cell::Number(text) => text.clone(),
            Cell::Bytes(bytes) => format!("\\x{}", hex::encode(bytes)),
            other => return Err(Unfit(format!("{other:?} does not go into a column of type {kind}"))),
        })
    }
}

/// A JSON array as an array of the database: `{1,2}`.
fn array_text(json: &str, inner: &Type) -> Result<String, Unfit> {
    let unfit = || Unfit(format!("an array of {inner} takes an array"));
    let serde_json::Value::Array(items) = serde_json::from_str(json).map_err(|_| unfit())? else { return Err(unfit()) };
    let texts: Vec<String> = items
        .iter()
        .map(|item| {
            let text = match item {
                serde_json::Value::Null => return "NULL".to_owned(),
                serde_json::Value::String(text) if !matches!(*inner, Type::JSON | Type::JSONB) => text.clone(),
                other => other.to_string(),
            };
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        })
        .collect();
    Ok(format!("{{{}}}", texts.join(",")))
}

/// Whether we read values of a type.
fn readable(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Array(inner) => !matches!(inner.kind(), Kind::Array(_)) && readable(inner),
        Kind::Enum(_) => true,
        Kind::Domain(inner) => readable(inner),
        _ => matches!(
            *kind,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::OID
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::NUMERIC
                | Type::TEXT
                | Type::VARCHAR
                | Type::BPCHAR
                | Type::NAME
                | Type::CHAR
                | Type::UNKNOWN
                | Type::JSON
                | Type::JSONB
                | Type::BYTEA
                | Type::UUID
                | Type::TIMESTAMP
                | Type::TIMESTAMPTZ
                | Type::DATE
                | Type::TIME
                | Type::VOID
        ),
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Cell, Box<dyn Error + Sync + Send>> {
        read(kind, raw).ok_or_else(|| Unfit(format!("a value of type {kind} cannot be read")).into())
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value as the server sends it: big-endian, times as microseconds or days since 2000.
fn read(kind: &Type, raw: &[u8]) -> Option<Cell> {
    if let Kind::Domain(inner) = kind.kind() {
        return read(inner, raw);
    }
    if let Kind::Array(inner) = kind.kind() {
        return array(inner, raw);
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(match *kind {
        Type::BOOL => Cell::Flag(raw.first()? != &0),
        Type::INT2 => Cell::Whole(i16::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT4 => Cell::Whole(i32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::OID => Cell::Whole(u32::from_be_bytes(raw.try_into().ok()?).into()),
        Type::INT8 => Cell::Whole(i64::from_be_bytes(raw.try_into().ok()?)),
        Type::FLOAT4 => {
            let float = f32::from_be_bytes(raw.try_into().ok()?);
            // By its shortest text, so that 0.1 stays 0.1.
            Cell::Float(float.to_string().parse().ok()?)
        }
        Type::FLOAT8 => Cell::Float(f64::from_be_bytes(raw.try_into().ok()?)),
        Type::NUMERIC => numeric(raw)?,
        Type::JSON => Cell::Json(text(raw)?),
        Type::JSONB => Cell::Json(text(raw.strip_prefix(&[1])?)?),
        Type::BYTEA => Cell::Bytes(raw.to_vec()),
        Type::UUID => {
            let hex = hex::encode(raw);
            let part = |from: usize, to: usize| hex.get(from..to);
            Cell::Text([part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, part(20, 32)?].join("-"))
        }
        Type::TIMESTAMPTZ | Type::TIMESTAMP => {
            let micros = i64::from_be_bytes(raw.try_into().ok()?);
            match micros {
                i64::MAX => Cell::Text("infinity".to_owned()),
                i64::MIN => Cell::Text("-infinity".to_owned()),
                _ => {
                    let stamp = jiff::Timestamp::from_microsecond(micros.checked_add(SINCE_2000_US)?).ok()?;
                    let shown = stamp.to_string();
                    Cell::Text(if *kind == Type::TIMESTAMP { shown.trim_end_matches('Z').to_owned() } else { shown })
                }
            }
        }
        Type::DATE => {
            let days = i32::from_be_bytes(raw.try_into().ok()?);
            match days {
                i32::MAX => Cell::Text("infinity".to_owned()),
                i32::MIN => Cell::Text("-infinity".to_owned()),
                _ => {
                    let first = jiff::civil::date(2000, 1, 1);
                    Cell::Text(first.checked_add(jiff::Span::new().try_days(days).ok()?).ok()?.to_string())
                }
            }
        }
        Type::TIME => {
            let micros = i64::from_be_bytes(raw.try_into().ok()?);
            let time = jiff::civil::Time::midnight().checked_add(jiff::Span::new().try_microseconds(micros).ok()?).ok()?;
            Cell::Text(time.to_string())
        }
        Type::VOID => Cell::Null,
        // Texts of all kinds, and the words of an enum.
        _ => Cell::Text(text(raw)?),
    })
}

/// Microseconds from 1970 to 2000.
const SINCE_2000_US: i64 = 946_684_800_000_000;

fn number<const N: usize>(raw: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = raw.split_first_chunk::<N>()?;
    *raw = rest;
    Some(*first)
}

/// An array of any number of dimensions: the server gives all of them one type.
fn array(inner: &Type, mut raw: &[u8]) -> Option<Cell> {
    let dimensions = i32::from_be_bytes(number(&mut raw)?);
    let (_has_null, _kind): ([u8; 4], [u8; 4]) = (number(&mut raw)?, number(&mut raw)?);
    if dimensions == 0 {
        return Some(Cell::List(Vec::new()));
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(i32::from_be_bytes(number(&mut raw)?)).ok()?);
        let _first: [u8; 4] = number(&mut raw)?;
    }
    elements(inner, &lengths, &mut raw)
}

fn elements(inner: &Type, lengths: &[usize], raw: &mut &[u8]) -> Option<Cell> {
    let (length, deeper) = lengths.split_first()?;
    let mut cells = Vec::new();
    for _ in 0..*length {
        if !deeper.is_empty() {
            cells.push(elements(inner, deeper, raw)?);
            continue;
        }
        let bytes = i32::from_be_bytes(number(raw)?);
        match usize::try_from(bytes) {
            Err(_) => cells.push(Cell::Null),
            Ok(bytes) => {
                let (value, rest) = raw.split_at_checked(bytes)?;
                *raw = rest;
                cells.push(read(inner, value)?);
            }
        }
    }
    Some(Cell::List(cells))
}

/// Groups of four decimal digits, with the place of the first one and the number of digits behind the point.
fn numeric(mut raw: &[u8]) -> Option<Cell> {
    let count = i16::from_be_bytes(number(&mut raw)?);
    let weight = i32::from(i16::from_be_bytes(number(&mut raw)?));
    let sign = u16::from_be_bytes(number(&mut raw)?);
    let scale = usize::from(u16::from_be_bytes(number(&mut raw)?));
    match sign {
        0xc000 => return Some(Cell::Text("NaN".to_owned())),
        0xd000 => return Some(Cell::Text("infinity".to_owned())),
        0xf000 => return Some(Cell::Text("-infinity".to_owned())),
        _ => {}
    }
    let mut groups = Vec::new();
    for _ in 0..count {
        groups.push(i16::from_be_bytes(number(&mut raw)?));
    }
    let group = |at: i32| usize::try_from(weight - at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let mut text = String::new();
    if sign == 0x4000 {
        text.push('-');
    }
    let mut whole = String::new();
    for at in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", group(at)));
    }
    let trimmed = whole.trim_start_matches('0');
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let mut fraction = String::new();
        for at in 1..=i32::try_from(scale.div_ceil(4)).ok()? {
            fraction.push_str(&format!("{:04}", group(-at)));
        }
        text.push('.');
        text.push_str(fraction.get(..scale)?);
    }
    Some(Cell::Number(text))
}

/// TLS by rustls, with the certificates that the system trusts.
#[derive(Clone)]
struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    fn new() -> Result<Tls, Refused> {
        super::super::request::install_provider();
        let config = rustls::ClientConfig::with_platform_verifier();
        config.map(|config| Tls(Arc::new(config))).map_err(|error| Refused::again(format!("no TLS: {error}")))
    }
}

struct Connector(tokio_rustls::TlsConnector, ServerName<'static>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Connector;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connector, Self::Error> {
        // A server on a socket of this machine is asked for no certificate.
        let name = if domain.is_empty() { "localhost" } else { domain };
        Ok(Connector(tokio_rustls::TlsConnector::from(Arc::clone(&self.0)), ServerName::try_from(name.to_owned())?))
    }
}

type Connecting<S> = Pin<Box<dyn Future<Output = std::io::Result<Stream<S>>> + Send>>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Connector {
    type Stream = Stream<S>;
    type Error = std::io::Error;
    type Future = Connecting<S>;

    fn connect(self, stream: S) -> Connecting<S> {
        Box::pin(async move { Ok(Stream(self.0.connect(self.1, stream).await?)) })
    }
}

struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>, bytes: &[u8]) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
