//! Answers that are no success: one shape for all of them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::store::StoreError;

use super::view::{Detail, ErrorView};

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    details: Vec<Detail>,
    more: More,
}

/// What an answer says in a header of its own.
#[derive(Debug, Clone, Copy)]
enum More {
    Nothing,
    /// Come again after so many seconds.
    RetryAfter(u32),
    /// A bearer token is missing.
    Bearer,
}

impl ApiError {
    /// An error with a status and a sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), details: Vec::new(), more: More::Nothing }
    }

    /// The request is not as it should be.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// No or a wrong key or token.
    pub fn unauthorized(message: impl Into<String>) -> ApiError {
        ApiError { more: More::Bearer, ..ApiError::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// An answer that invites the sender to come again after some seconds.
    pub fn retry(status: StatusCode, seconds: u32, message: impl Into<String>) -> ApiError {
        ApiError { more: More::RetryAfter(seconds), ..ApiError::new(status, message) }
    }

    /// Whether one of its details has this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.details.iter().any(|detail| detail.code == code)
    }

    /// With every single problem.
    #[must_use]
    pub fn detailed(mut self, details: Vec<Detail>) -> ApiError {
        self.details = details;
        self
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Every single problem, where there can be several.
    pub fn details(&self) -> &[Detail] {
        &self.details
    }

    /// This error as the bytes of an answer after which the connection is closed, for one that no request was read from.
    pub fn last_words(self) -> Vec<u8> {
        let status = self.status;
        let view = ErrorView { error: self.message, status: status.as_u16(), details: self.details };
        // Texts and numbers are always JSON; without them the status would still say the most.
        let body = serde_json::to_string(&view).unwrap_or_default();
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .into_bytes()
    }
}

impl std::fmt::Display for ApiError {
    /// The sentence that the client gets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Full => ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "the disk is full: nothing was stored"),
            StoreError::Closed => ApiError::retry(StatusCode::SERVICE_UNAVAILABLE, 5, "the engine is stopping"),
            // The words of the disk may name paths: they are for the log, not for every client.
            StoreError::Io(_) | StoreError::Corrupt(_) => {
                tracing::error!(%error, "a request met a fault of the store");
                ApiError::retry(StatusCode::SERVICE_UNAVAILABLE, 5, "the store has failed; the engine's log says how")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let view = ErrorView { error: self.message, status: self.status.as_u16(), details: self.details };
        let mut response = (self.status, Json(view)).into_response();
        let headers = response.headers_mut();
        match self.more {
            More::Nothing => None,
            More::RetryAfter(seconds) => headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds)),
            More::Bearer => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        };
        response
    }
}
