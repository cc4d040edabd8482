//! Logging in: a token becomes a cookie that only the server can read and only the dashboard sends.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::html;

use crate::server::{Right, SESSION_LASTS};

use super::ask::{Form, is_ours};
use super::door::is_own;
use super::{Ask, Web, layout};

/// The most bytes of the form, which anybody may post: a token and where to go then.
const FORM_BYTES: u64 = 16 * 1024;

/// The cookie's name. Cookies of one host are shared by all its ports, so each engine has its own.
fn cookie_name(web: &Web) -> String {
    format!("stepwell-{}", web.api().listen().port())
}

/// What the session that comes with a request may do; none where none that is known comes.
pub(super) fn session(web: &Web, headers: &HeaderMap) -> Option<Right> {
    let name = cookie_name(web);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let values = cookies.filter_map(|cookie| cookie.trim().split_once('=')).filter(|(key, _)| *key == name);
    values.map(|(_, value)| web.api().right_of(value)).filter(|right| *right > Right::Nothing).max()
}

/// `GET /login`
pub(super) async fn page(State(web): State<Web>, request: Request) -> Response {
    let ask = Ask::of(&request, None);
    let to = ask.one("to").filter(|to| is_ours(to)).unwrap_or("/").to_owned();
    if session(&web, request.headers()).is_some() || web.api().right_without() == Right::All {
        return Redirect::to(&to).into_response();
    }
    form(&web, &to, None)
}

/// `POST /login`
pub(super) async fn login(State(web): State<Web>, request: Request) -> Response {
    if !is_own(request.headers()) {
        return elsewhere();
    }
    // Behind a proxy that speaks TLS, the cookie must never travel without it.
    let is_secure = request.headers().get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
    let fields = match web.api().form(request, FORM_BYTES).await {
        Ok(fields) => Form(fields),
        Err(error) => return error.into_response(),
    };
    let to = fields.one("to").filter(|to| is_ours(to)).unwrap_or("/").to_owned();
    let Some(session) = fields.one("token").and_then(|token| web.api().login(token)) else {
        return form(&web, &to, Some("This token is not known."));
    };
    let mut response = Redirect::to(&to).into_response();
    set_cookie(&mut response, &web, &session.value, SESSION_LASTS.0 / 1_000, is_secure);
    response
}

/// `POST /logout`
pub(super) async fn logout(State(web): State<Web>, request: Request) -> Response {
    if !is_own(request.headers()) {
        return elsewhere();
    }
    let is_secure = request.headers().get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&mut response, &web, "", 0, is_secure);
    response
}

/// For a form that stands on a page of somebody else.
fn elsewhere() -> Response {
    let body = html! { p { "✗ This request does not come from a page of the dashboard. " a href="/login" { "Log in" } } };
    (StatusCode::FORBIDDEN, Html(layout::bare("Not allowed", body).into_string())).into_response()
}

fn set_cookie(response: &mut Response, web: &Web, value: &str, seconds: i64, is_secure: bool) {
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", cookie_name(web));
    // A session is made of letters, digits and dots, which every header may hold.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

fn form(web: &Web, to: &str, problem: Option<&str>) -> Response {
    let body = html! {
        form.login method="post" action="/login" {
            h1 { span.logo { "▤" } " stepwell" }
            p.muted { (layout::app_name(web)) }
            input type="hidden" name="to" value=(to);
            label for="token" { "Token" }
            input #token type="password" name="token" autocomplete="current-password" required autofocus
                aria-describedby=[problem.map(|_| "problem")] aria-invalid=[problem.map(|_| "true")];
            @if let Some(problem) = problem { p #problem .bad role="alert" { "✗ " (problem) } }
            button.primary type="submit" { "Log in" }
            p.muted.small { "The admin token (STEPWELL_ADMIN_TOKEN) may do everything, the read-only token (STEPWELL_READ_TOKEN) may look." }
        }
    };
    let status = if problem.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    (status, Html(layout::bare("Log in", body).into_string())).into_response()
}
