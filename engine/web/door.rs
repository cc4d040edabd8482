//! Who comes in: every page but the login asks for a session, where the API asks for a token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{DOCTYPE, html};
use url::form_urlencoded;

use crate::server::{Right, index};

use super::ask::Who;
use super::{Ask, Web, WebError, login, may_change};

/// Lets in whoever has a session or needs none, and says who it is.
pub(super) async fn guard(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let (method, headers, uri) = (request.method(), request.headers(), request.uri());
    // Commands that look at the root want a few lines of text, not a page.
    if uri.path() == "/" && !wants_html(headers) {
        return index().await;
    }
    let session = login::session(&web, headers);
    let right = session.unwrap_or(Right::Nothing).max(web.api().right_without());
    if right == Right::Nothing {
        return outside(method, headers, uri);
    }
    if method != Method::GET && method != Method::HEAD {
        let refused = match () {
            () if !is_own(headers) => Some("this request does not come from a page of the dashboard"),
            () if !may_change(right) => Some("you are logged in with the read-only token, which may change nothing"),
            () => None,
        };
        if let Some(why) = refused {
            let ask = Ask::refused(session.is_some());
            return WebError::new(StatusCode::FORBIDDEN, why).page(&web, &ask);
        }
    }
    request.extensions_mut().insert(Who { right, has_session: session.is_some() });
    next.run(request).await
}

fn wants_html(headers: &HeaderMap) -> bool {
    if headers.contains_key("hx-request") {
        return true;
    }
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.contains("text/html")
}

/// Whether a request that changes something comes from a page of ours. The server has refused foreign origins already; here even
/// pages that may call the API are none of ours, and a browser that names no origin is asked what else it knows.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)),
        // Whoever sends no origin is no browser with somebody else's page in it; its cookie came with it on purpose.
        (None, _) => true,
        _ => false,
    }
}

/// For one who is not logged in: the way to the login.
fn outside(method: &Method, headers: &HeaderMap, uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map_or("/", |whole| whole.as_str());
    let login = match wanted {
        "/" => "/login".to_owned(),
        wanted => format!("/login?{}", form_urlencoded::Serializer::new(String::new()).append_pair("to", wanted).finish()),
    };
    if headers.contains_key("hx-request") || uri.path() == "/live" {
        // A part of a page that is shown already: the whole of it has to go.
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        response.headers_mut().insert("hx-redirect", HeaderValue::from_static("/login"));
        return response;
    }
    if method != Method::GET && method != Method::HEAD {
        return Redirect::to("/login").into_response();
    }
    // A strict cookie does not come along where a link of another site leads here; when the page itself asks again, it does.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        let again = html! {
            (DOCTYPE)
            html lang="en" { head { meta charset="utf-8"; title { "stepwell" } meta http-equiv="refresh" content="0"; } body {} }
        };
        return Html(again.into_string()).into_response();
    }
    Redirect::to(&login).into_response()
}
