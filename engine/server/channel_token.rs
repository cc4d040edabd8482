//! Tokens of channels: what a browser listens to one channel with, so that it need not know a token of the API.
//!
//! Such a token is the channel's name, its end, and a signature by the admin token. So nothing is kept of it, it survives a restart of
//! the engine, ends with the admin token, and does not tell that.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

use crate::base::Millis;

use super::auth::{Auth, Hash, Right};
use super::error::ApiError;

/// What signs where everybody may read: there is nothing to keep, and a token that is wrong should show before there is.
const OPEN: Hash = [0; 32];

/// A token that listens to a channel until `expires`; none where there is no admin token and one is needed. It is made of letters,
/// digits, `.`, `-` and `_` alone.
pub(super) fn make(auth: &Auth, channel: &str, expires: Millis) -> Option<String> {
    let head = format!("{}.{}", BASE64.encode(channel), expires.0);
    let signature = BASE64.encode(hmac::sign(&signer(auth)?, head.as_bytes()));
    Some(format!("{head}.{signature}"))
}

/// Whether a token listens to a channel now.
///
/// # Errors
/// 401 where nobody has made it or its time is over, 403 where it was made for another channel.
pub(super) fn check(auth: &Auth, token: &str, channel: &str, now: Millis) -> Result<(), ApiError> {
    let Some((named, expires)) = known(auth, token) else {
        return Err(ApiError::unauthorized("this token of a channel is not known"));
    };
    if expires <= now {
        return Err(ApiError::unauthorized("the time of this token is over; ask for a new one"));
    }
    if named != channel.as_bytes() {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "this token is for another channel"));
    }
    Ok(())
}

/// The channel and the end that a token names, where we have signed it.
fn known(auth: &Auth, token: &str) -> Option<(Vec<u8>, Millis)> {
    let (head, signature) = token.rsplit_once('.')?;
    hmac::verify(&signer(auth)?, head.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
    let (channel, expires) = head.split_once('.')?;
    Some((BASE64.decode(channel).ok()?, Millis(expires.parse().ok()?)))
}

/// The key is bound to its use, so that a signature made for something else is none of ours.
fn signer(auth: &Auth) -> Option<hmac::Key> {
    let token = match auth.token_of(Right::All) {
        Some(token) => token,
        None if auth.is_open() => &OPEN,
        None => return None,
    };
    let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token), b"stepwell channel token");
    Some(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::super::options::ServerOptions;
    use super::*;
    use crate::base::Span;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn auth(admin: Option<&str>, read: Option<&str>) -> Auth {
        let (admin_token, read_token) = (admin.map(str::to_owned), read.map(str::to_owned));
        Auth::new(&ServerOptions { admin_token, read_token, ..ServerOptions::default() }, "127.0.0.1:1".parse().unwrap())
    }

    fn status(auth: &Auth, token: &str, channel: &str, now: Millis) -> u16 {
        check(auth, token, channel, now).map_or_else(|error| error.status().as_u16(), |()| 200)
    }

    #[test]
    fn a_token_opens_its_channel_until_its_time_is_over() {
        let auth = auth(Some("sesame"), Some("look"));
        let end = NOW.after(Span::seconds(60));
        let token = make(&auth, "user/1. é", end).unwrap();
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) && !token.contains("sesame"), "{token}");
        assert_eq!(status(&auth, &token, "user/1. é", Millis(end.0 - 1)), 200);
        assert_eq!(status(&auth, &token, "user/1. é", end), 401);
        assert_eq!(status(&auth, &token, "user/2", NOW), 403);
    }

    #[test]
    fn a_token_is_worth_nothing_once_it_is_changed_or_its_maker_is_another_one() {
        let old = auth(Some("sesame"), None);
        let token = make(&old, "a", NOW.after(Span::seconds(60))).unwrap();
        let (head, signature) = token.rsplit_once('.').unwrap();
        let other = BASE64.encode("b");
        let later = head.replacen(".17", ".99", 1);
        for forged in [
            format!("{later}.{signature}"),
            format!("{other}.{}.{signature}", head.split_once('.').unwrap().1),
            format!("{token}A"),
            head.to_owned(),
            String::new(),
            "..".to_owned(),
        ] {
            assert_eq!(status(&old, &forged, "a", NOW), 401, "{forged}");
        }
        assert_eq!(status(&auth(Some("another"), None), &token, "a", NOW), 401);
        assert_eq!(status(&auth(None, None), &token, "a", NOW), 401);
    }

    #[test]
    fn where_no_token_is_needed_one_is_made_and_looked_at_all_the_same() {
        let open = auth(None, None);
        let token = make(&open, "a", NOW.after(Span::seconds(60))).unwrap();
        assert_eq!((status(&open, &token, "a", NOW), status(&open, &token, "b", NOW)), (200, 403));
        let reading = auth(None, Some("look"));
        assert_eq!(make(&reading, "a", NOW), None);
        assert_eq!(status(&reading, &token, "a", NOW), 401, "what everybody can sign opens nothing once something is closed");
    }
}
