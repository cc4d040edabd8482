//! The header that makes a repeated send of events without ids harmless.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::base::hex;

use super::super::error::ApiError;

const HEADER: &str = "x-inngest-event-id-seed";
/// Random bytes in a seed: the random part of the ids that Inngest's clients make.
const SEED_BYTES: usize = 10;
/// Clients differ in whether they pad.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What one request's events are told apart by, with their number, when it is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Seed(String);

impl Seed {
    /// The request's seed, if it has one.
    pub fn of(headers: &HeaderMap) -> Result<Option<Seed>, ApiError> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(first) = values.next() else { return Ok(None) };
        let seed = if values.next().is_none() { first.to_str().ok().and_then(Seed::parse) } else { None };
        match seed {
            Some(seed) => Ok(Some(seed)),
            None => Err(ApiError::bad_request(format!("`{HEADER}` must be `MILLISECONDS,BASE64`, with {SEED_BYTES} bytes in base64"))),
        }
    }

    fn parse(text: &str) -> Option<Seed> {
        let (time, random) = text.split_once(',')?;
        let time: u64 = time.trim().parse().ok()?;
        let random = BASE64.decode(random.trim()).ok().filter(|bytes| bytes.len() == SEED_BYTES)?;
        // A control character begins the key, so that no sender's id, which has none, can be equal to it.
        Some(Seed(format!("\u{1}{time},{}", hex::encode(&random))))
    }

    /// The dedupe key of the n-th event of the request.
    pub fn key(&self, n: usize) -> String {
        format!("{},{n}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_time_and_ten_bytes() {
        let seed = Seed::parse("1700000000000,AAECAwQFBgcICQ==").unwrap();
        assert_eq!(seed.key(3), "\u{1}1700000000000,00010203040506070809,3");
        assert_eq!(Seed::parse("1700000000000,AAECAwQFBgcICQ"), Some(seed));
        for bad in [
            "",
            "1",
            "1,",
            ",AAECAwQFBgcICQ==",
            "x,AAECAwQFBgcICQ==",
            "-1,AAECAwQFBgcICQ==",
            "1,AAECAwQFBgcI",
            "1,!!!",
            "1,AAECAwQFBgcICQ==,2",
        ] {
            assert_eq!(Seed::parse(bad), None, "{bad}");
        }
    }
}
