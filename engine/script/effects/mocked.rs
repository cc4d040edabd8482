//! What a handler asks of others in a test: somebody else answers, on the test's clock, and nothing leaves the process.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::base::{Span, alloc};
use crate::script::attempt::{Attempt, Inside};
use crate::script::error::{Fault, Thrown};
use crate::script::outside::{Answer, Asked, Errand, Outside};

use super::request::{self, Failed, Request};

/// Asks whoever answers; none where no answer came in time.
pub(super) fn ask(
    outside: &dyn Outside,
    attempt: &Attempt,
    inside: &Inside,
    errand: Errand<'_>,
    timeout: Option<Span>,
) -> Result<Option<Answer>, Fault> {
    let number = attempt.next_call();
    // What the answers take is not the script's.
    let answered = alloc::uncounted(|| {
        let run = &attempt.call.run;
        outside.answer(&Asked { run: run.id, function: &run.function, step: &inside.key, attempt: inside.attempt, number, errand })
    });
    if let Answer::Nobody { help } = answered.answer {
        let message = format!("{} is not mocked, and there is no {} in tests", errand.told(), errand.absent());
        return Err(Thrown::last("E0611", message).help(help).fault());
    }
    let after = answered.after;
    if after.0 > 0 {
        let wait = attempt.ports.clock.sleep_until(attempt.now().after(timeout.map_or(after, |timeout| after.min(timeout))), false);
        attempt.wait_in_step(wait)?;
        if timeout.is_some_and(|timeout| after >= timeout) {
            return Ok(None);
        }
    }
    Ok(Some(answered.answer))
}

/// An answer of another kind than was asked for: whoever answers has mixed them up.
pub(super) fn unfit() -> Fault {
    Thrown::last("E0433", "what stands in the place of the world outside gave another kind of answer").fault()
}

/// Sends a request; none where no answer came in time.
pub(super) fn send(
    outside: &dyn Outside,
    attempt: &Attempt,
    inside: &Inside,
    request: &Request,
    timeout: Span,
) -> Result<Option<Result<request::Answer, Failed>>, Fault> {
    let headers: Vec<(String, String)> = alloc::uncounted(|| {
        let plain = request.headers.iter().filter(|(_, value)| !value.is_sensitive());
        plain.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
    });
    let errand =
        Errand::Http { method: request.method.as_str(), url: request.url.as_str(), headers: &headers, body: request.body.as_deref() };
    let answer = ask(outside, attempt, inside, errand, Some(timeout));
    alloc::uncounted(|| drop(headers));
    Ok(match answer? {
        None => None,
        Some(Answer::Http { status, headers, body }) => Some(Ok(alloc::uncounted(|| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                // A name or value that cannot be a header was refused when the test was read.
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
                    map.append(name, value);
                }
            }
            request::Answer { status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK), headers: map, body }
        }))),
        Some(Answer::Broken(said)) => Some(Err(Failed::Network(said))),
        Some(_) => return Err(unfit()),
    })
}
