//! A request's body, read within its limits of size and time.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use crate::base::Span;

use super::super::error::ApiError;
use super::super::options::ServerOptions;

/// Bytes of a refused body that are read and dropped, so that a client that is still writing gets to see why.
const DROPPED_MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long that may take.
const DROPPING_MOST: Span = Span::seconds(2);

/// The whole body, which is JSON.
pub(in crate::server) async fn read(headers: &HeaderMap, body: Body, most: u64, within: Span) -> Result<Bytes, ApiError> {
    read_as("application/json", headers, body, most, within).await
}

/// The fields of a form, in order.
pub(in crate::server) async fn form(options: &ServerOptions, request: Request, most: u64) -> Result<Vec<(String, String)>, ApiError> {
    let (parts, body) = request.into_parts();
    let form = "application/x-www-form-urlencoded";
    // Each byte of a field may come as three.
    let most = options.body_bytes.saturating_mul(3).min(most);
    let bytes = read_as(form, &parts.headers, body, most, options.body_timeout).await?;
    Ok(url::form_urlencoded::parse(&bytes).into_owned().collect())
}

async fn read_as(expected: &str, headers: &HeaderMap, body: Body, most: u64, within: Span) -> Result<Bytes, ApiError> {
    if let Err(error) = type_of(headers, expected) {
        discard(body).await;
        return Err(error);
    }
    raw(headers, body, most, within).await
}

/// The whole body, byte by byte as it was sent, whatever it is.
pub(in crate::server) async fn raw(headers: &HeaderMap, mut body: Body, most: u64, within: Span) -> Result<Bytes, ApiError> {
    if let Err(error) = encoding_of(headers) {
        discard(body).await;
        return Err(error);
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    match tokio::time::timeout(within.std(), collect(&mut body, most)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            discard(body).await;
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {most} bytes")))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {within}"))),
    }
}

/// The body as the one JSON value that a route takes; what nothing makes, where there is none.
pub(in crate::server) async fn json<T: DeserializeOwned + Default>(options: &ServerOptions, request: Request) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    if axum::body::HttpBody::is_end_stream(&body) {
        return Ok(T::default());
    }
    let bytes = read(&parts.headers, body, options.body_bytes, options.body_timeout).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(format!("the body is not as it should be: {error}")))
}

/// Reads on and drops what comes, within limits.
pub(in crate::server) async fn discard(mut body: Body) {
    let dropping = async {
        let mut left = DROPPED_MOST_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // A client that is slower than this has to do without the reason.
    let _ = tokio::time::timeout(DROPPING_MOST.std(), dropping).await;
}

/// The bytes of a body; none where there are more than `most`.
async fn collect(body: &mut Body, most: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.len().max(all.len()) + data.len() > most {
            return Ok(None);
        }
        // Most bodies come in one piece, and are then not copied.
        match (first.is_empty(), all.is_empty()) {
            (true, true) => first = data,
            (false, true) => {
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
            }
            _ => all.extend_from_slice(&data),
        }
    }
    Ok(Some(if all.is_empty() { first } else { all.freeze() }))
}

/// Nothing is unpacked: a few bytes may stand for more than there is room for.
fn encoding_of(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let message = "compressed bodies are not taken: send it without `Content-Encoding`";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
        _ => Ok(()),
    }
}

/// What is expected is taken, and what has no type. A browser sends text/plain to foreign servers without asking them first.
fn type_of(headers: &HeaderMap, expected: &str) -> Result<(), ApiError> {
    let refused = |message: String| Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let shown: String = essence.chars().take(100).collect();
    let what = if expected.ends_with("json") { "JSON" } else { "a form" };
    refused(format!("`{shown}` is not taken: send {what} with `Content-Type: {expected}`"))
}
