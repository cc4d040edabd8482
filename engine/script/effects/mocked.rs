//! A handler's request in a test: somebody else answers, on the test's clock, and nothing leaves the process.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::base::{Span, alloc};
use crate::script::attempt::{Attempt, Inside};
use crate::script::error::{Fault, Thrown};
use crate::script::outside::{Answered, Asked, Outside};

use super::request::{Answer, Failed, Request};

/// Asks whoever answers; none where no answer came in time.
pub(super) fn send(
    outside: &dyn Outside,
    attempt: &Attempt,
    inside: &Inside,
    request: Request,
    timeout: Span,
) -> Result<Option<Result<Answer, Failed>>, Fault> {
    let number = attempt.next_call();
    // What the answers take is not the script's.
    let answered = alloc::uncounted(|| {
        let plain = request.headers.iter().filter(|(_, value)| !value.is_sensitive());
        let headers: Vec<(String, String)> =
            plain.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
        outside.http(&Asked {
            run: attempt.call.run.id,
            function: &attempt.call.run.function,
            step: &inside.key,
            attempt: inside.attempt,
            number,
            method: request.method.as_str(),
            url: request.url.as_str(),
            headers: &headers,
            body: request.body.as_deref(),
        })
    });
    let shown = super::http::without_query(&request.url);
    let after = match &answered {
        Answered::Answer { after, .. } | Answered::Broken { after, .. } => *after,
        Answered::Nobody { help } => {
            let message = format!("{} {shown} is not mocked, and there is no network in tests", request.method);
            return Err(Thrown::last("E0611", message).help(help.clone()).fault());
        }
    };
    if after.0 > 0 {
        let wait = attempt.ports.clock.sleep_until(attempt.now().after(after.min(timeout)), false);
        attempt.wait_in_step(wait)?;
        if after >= timeout {
            return Ok(None);
        }
    }
    Ok(Some(alloc::uncounted(|| match answered {
        Answered::Answer { status, headers, body, .. } => {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                // A name or value that cannot be a header was refused when the test was read.
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
                    map.append(name, value);
                }
            }
            Ok(Answer { status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK), headers: map, body })
        }
        Answered::Broken { said, .. } => Err(Failed::Network(said)),
        Answered::Nobody { help } => Err(Failed::Network(help)),
    })))
}
