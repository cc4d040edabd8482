//! Sessions of a browser: what a cookie holds instead of a token.
//!
//! A session is its right, its end, and a signature by the token that it was begun with. So nothing is kept of it, it survives a
//! restart of the engine, ends with its token, and does not tell the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;

use crate::base::{Millis, Span};

use super::auth::{Auth, Hash, Right};

/// How long a session lasts.
pub const SESSION_LASTS: Span = Span::seconds(7 * 24 * 3600);

/// A session that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What the cookie holds: letters, digits, `.`, `-` and `_` alone.
    pub value: String,
    /// What its holder may do.
    pub right: Right,
}

/// A session for whoever knows a token.
pub(super) fn begin(auth: &Auth, token: &str, now: Millis) -> Option<Session> {
    let right = auth.right_of(token);
    let key = auth.token_of(right)?;
    let head = format!("{}.{}", word(right), now.after(SESSION_LASTS).0);
    let signature = BASE64.encode(hmac::sign(&signer(key), head.as_bytes()));
    Some(Session { value: format!("{head}.{signature}"), right })
}

/// What the holder of a session may do now.
pub(super) fn right(auth: &Auth, session: &str, now: Millis) -> Right {
    known(auth, session, now).unwrap_or(Right::Nothing)
}

fn known(auth: &Auth, session: &str, now: Millis) -> Option<Right> {
    let (head, signature) = session.rsplit_once('.')?;
    let (named, ends) = head.split_once('.')?;
    let right = [Right::All, Right::Read].into_iter().find(|right| word(*right) == named)?;
    let key = auth.token_of(right)?;
    hmac::verify(&signer(key), head.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
    (ends.parse::<i64>().ok()? > now.0).then_some(right)
}

fn word(right: Right) -> &'static str {
    match right {
        Right::Nothing => "none",
        Right::Read => "read",
        Right::All => "all",
    }
}

/// The key is bound to its use, so that a signature made for something else is none of ours.
fn signer(token: &Hash) -> hmac::Key {
    let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token), b"stepwell dashboard session");
    hmac::Key::new(hmac::HMAC_SHA256, own.as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::options::ServerOptions;
    use super::*;

    fn auth(admin: &str, read: &str) -> Auth {
        let options = ServerOptions { admin_token: Some(admin.into()), read_token: Some(read.into()), ..ServerOptions::default() };
        Auth::new(&options, "127.0.0.1:1".parse().unwrap())
    }

    const NOW: Millis = Millis(1_700_000_000_000);

    #[test]
    fn a_session_has_the_right_of_its_token_until_it_ends() {
        let auth = auth("sesame", "look");
        let (all, read) = (begin(&auth, "sesame", NOW).unwrap(), begin(&auth, "look", NOW).unwrap());
        assert_eq!((all.right, read.right), (Right::All, Right::Read));
        assert_eq!((right(&auth, &all.value, NOW), right(&auth, &read.value, NOW)), (Right::All, Right::Read));
        assert_eq!(right(&auth, &all.value, NOW.after(SESSION_LASTS)), Right::Nothing);
        assert!(begin(&auth, "guess", NOW).is_none());
        assert!(!all.value.contains("sesame"));
    }

    #[test]
    fn a_session_is_worth_nothing_once_it_is_changed_or_its_token_is_another_one() {
        let old = auth("sesame", "look");
        let read = begin(&old, "look", NOW).unwrap().value;
        for forged in
            [read.replacen("read", "all", 1), read.replacen("17", "99", 1), format!("{read}A"), String::new(), "all.1.".to_owned()]
        {
            assert_eq!(right(&old, &forged, NOW), Right::Nothing, "{forged}");
        }
        assert_eq!(right(&auth("sesame", "other"), &read, NOW), Right::Nothing);
        let bare = Auth::new(&ServerOptions::default(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(right(&bare, &read, NOW), Right::Nothing);
    }
}
