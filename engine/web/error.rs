//! Why a page is not shown: drawn as a page itself.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use crate::server::ApiError;
use crate::server::view::Detail;
use crate::store::StoreError;

use super::layout::{self, Content};
use super::widgets::{self, Tone};
use super::{Ask, Web};

/// Why a page is not shown, or an action not done.
#[derive(Debug, Clone)]
pub struct WebError {
    status: StatusCode,
    message: String,
    details: Vec<Detail>,
}

impl WebError {
    /// An error with a status and a sentence.
    pub fn new(status: StatusCode, message: impl Into<String>) -> WebError {
        WebError { status, message: message.into(), details: Vec::new() }
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> WebError {
        WebError::new(StatusCode::NOT_FOUND, message)
    }

    /// What was asked makes no sense.
    pub fn bad_request(message: impl Into<String>) -> WebError {
        WebError::new(StatusCode::BAD_REQUEST, message)
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

    /// The error as a box, for a page that shows the rest all the same.
    pub fn remark(&self) -> Markup {
        widgets::remark(
            Tone::Bad,
            html! {
                p { strong { (self.message) } }
                @if !self.details.is_empty() { (details(&self.details)) }
            },
        )
    }

    /// The error as an answer, for a part that is asked for or a whole page.
    pub(super) fn page(&self, web: &Web, ask: &Ask) -> Response {
        if ask.part().is_some() {
            return (self.status, self.remark()).into_response_html();
        }
        let title = match self.status {
            StatusCode::NOT_FOUND => "Not there",
            StatusCode::FORBIDDEN => "Not allowed",
            status if status.is_client_error() => "That did not work",
            _ => "Something is wrong",
        };
        let content = Content::new(html! {
            (self.remark())
            p.muted { "Status " (self.status.as_u16()) ". " a href="/" { "To the overview" } }
        });
        (self.status, layout::plain(web, ask, title, content)).into_response_html()
    }
}

/// Single problems, each with its place and what to do.
pub(super) fn details(details: &[Detail]) -> Markup {
    html! {
        ul.problems {
            @for detail in details {
                li {
                    @match &detail.seen {
                        Some(seen) => { (widgets::picture(&seen.picture)) }
                        None => {
                            @if !detail.pointer.is_empty() { code { (detail.pointer) } " " }
                            (detail.message)
                            @if let Some(help) = &detail.help { " " span.muted { (help) } }
                            @if !detail.code.is_empty() { " " code.muted { (detail.code) } }
                        }
                    }
                }
            }
        }
    }
}

/// Answers with a status and HTML.
trait IntoHtml {
    fn into_response_html(self) -> Response;
}

impl IntoHtml for (StatusCode, Markup) {
    fn into_response_html(self) -> Response {
        (self.0, axum::response::Html(self.1.into_string())).into_response()
    }
}

impl From<ApiError> for WebError {
    fn from(error: ApiError) -> WebError {
        WebError { status: error.status(), message: error.message().to_owned(), details: error.details().to_vec() }
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> WebError {
        ApiError::from(error).into()
    }
}
