//! What stands behind the `?` of a request, and pages by key.

use axum::extract::Query;
use axum::extract::rejection::PathRejection;
use axum::http::Uri;

use crate::base::diagnostic::nearest;
use crate::base::{Id, Millis};
use crate::rules::{EventRow, RunRow};
use crate::store::StoreError;

use super::error::ApiError;
use super::view::When;

/// Entries of a page where the request does not say.
const LIMIT_DEFAULT: usize = 50;
/// Most entries of a page.
const LIMIT_MOST: usize = 1_000;

/// Rows that are read from the store at once; one of them may have megabytes.
const ROWS_AT_ONCE: usize = 64;
/// Rows that one page looks at, at most, for those that pass its filter.
pub(super) const SCANNED_MOST: usize = 20_000;
/// Bytes of data and results after which a page takes no further row.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The parameters of a request. A name that the route does not know is an error: a misspelt filter would show everything.
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Parameters from elsewhere; those that a route does not know have no effect.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Params {
        Params(pairs)
    }

    /// Those of a request, each of which must be known.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Params, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| ApiError::bad_request(error.body_text()))?;
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(100).collect();
                let help = match nearest(&name, known.iter().copied()) {
                    Some(right) => format!("did you mean `{right}`?"),
                    None if known.is_empty() => "there are none here".to_owned(),
                    None => format!("there are {}", known.join(", ")),
                };
                return Err(ApiError::bad_request(format!("unknown parameter `{name}`; {help}")));
            }
        }
        Ok(Params(pairs))
    }

    /// The value of a parameter that stands once at most; an empty one is as good as none.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(ApiError::bad_request(format!("the parameter `{name}` stands twice"))),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// All values of a parameter, which may stand several times and hold several with commas between them.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(key, _)| key == name).flat_map(|(_, value)| value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty())
    }

    /// The values of a parameter that may stand several times, each as it is; empty ones are as good as none.
    pub(super) fn each<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str());
        values.filter(|value| !value.is_empty())
    }

    /// The most entries of a page.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.one("limit")? else { return Ok(LIMIT_DEFAULT) };
        match text.parse() {
            Ok(limit @ 1..=LIMIT_MOST) => Ok(limit),
            _ => Err(ApiError::bad_request(format!("`limit` must be a number from 1 to {LIMIT_MOST}"))),
        }
    }

    /// A number that counts from 0.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let bad = || ApiError::bad_request(format!("`{name}` must be a whole number, 0 or more"));
        self.one(name)?.map(|text| text.parse().map_err(|_| bad())).transpose()
    }

    /// An id written out.
    pub(super) fn id(&self, name: &str) -> Result<Option<Id>, ApiError> {
        self.one(name)?.map(|text| parse_id(name, text)).transpose()
    }

    /// A time: RFC 3339, milliseconds since 1970, or a length of time before `now`.
    pub(super) fn time(&self, name: &str, now: Millis) -> Result<Option<Millis>, ApiError> {
        let bad = |why: &str| ApiError::bad_request(format!("`{name}` {why}"));
        self.one(name)?.map(|text| text.parse::<When>().map(|when| when.seen_from(now)).map_err(bad)).transpose()
    }

    /// The smallest and the largest id that the page may hold, by `prefix` and `cursor`.
    pub(super) fn bounds(&self) -> Result<(Option<Id>, Option<Id>), ApiError> {
        let (mut from, mut to) = (None, None);
        if let Some(prefix) = self.one("prefix")? {
            let bad = |error| ApiError::bad_request(format!("`prefix` is {error}"));
            let (low, high) = Id::range_of_prefix(prefix).map_err(bad)?;
            (from, to) = (Some(low), Some(high));
        }
        if let Some(cursor) = self.one("cursor")? {
            let bad = |_| ApiError::bad_request("`cursor` must be what the page before answered as `cursor`");
            let last: Id = cursor.parse().map_err(bad)?;
            let below = Id(last.0 - 1);
            to = Some(to.map_or(below, |to| below.min(to)));
        }
        Ok((from, to))
    }
}

/// A row that a page is made of.
pub(super) trait Entry {
    fn id(&self) -> Id;
    /// About how large its JSON is.
    fn bytes(&self) -> usize;
}

impl Entry for EventRow {
    fn id(&self) -> Id {
        self.id
    }

    fn bytes(&self) -> usize {
        self.data.len() + self.extra.as_ref().map_or(0, |extra| extra.len())
    }
}

impl Entry for RunRow {
    fn id(&self) -> Id {
        self.id
    }

    fn bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.len())
    }
}

/// Up to `limit` rows that pass, newest first, and the cursor of the next page. `read` gives at most so many rows up to an
/// id. A page ends early where its rows are large, or where about `looks_at` had to be looked at.
pub(super) fn fill<R: Entry>(
    limit: usize,
    looks_at: usize,
    mut to: Option<Id>,
    passes: impl Fn(&R) -> bool,
    read: impl Fn(Option<Id>, usize) -> Result<Vec<R>, StoreError>,
) -> Result<(Vec<R>, Option<Id>), StoreError> {
    let mut found: Vec<R> = Vec::new();
    let (mut scanned, mut bytes) = (0, 0);
    loop {
        let rows = read(to, ROWS_AT_ONCE)?;
        scanned += rows.len();
        let is_last = rows.len() < ROWS_AT_ONCE;
        let Some(last) = rows.last().map(Entry::id) else { return Ok((found, None)) };
        for row in rows.into_iter().filter(&passes) {
            // Only a row that does not fit any more tells that there is a next page.
            if found.len() == limit || bytes > PAGE_BYTES {
                let cursor = found.last().map(Entry::id);
                return Ok((found, cursor));
            }
            bytes += row.bytes();
            found.push(row);
        }
        match is_last {
            true => return Ok((found, None)),
            false if scanned >= looks_at => return Ok((found, Some(last))),
            false => to = Some(Id(last.0 - 1)),
        }
    }
}

fn parse_id(name: &str, text: &str) -> Result<Id, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("`{name}` must be an id of 13 characters")))
}

/// The id in a route's path. What cannot be an id names nothing.
pub(super) fn path_id(what: &str, path: Result<axum::extract::Path<String>, PathRejection>) -> Result<Id, ApiError> {
    let text = path.map(|axum::extract::Path(text)| text).map_err(|error| ApiError::bad_request(error.body_text()))?;
    let not_one = |_| {
        let text: String = text.chars().take(100).collect();
        ApiError::not_found(format!("`{text}` is no id of {what}: ids have 13 characters"))
    };
    text.parse().map_err(not_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        Params::of(&uri, &["limit", "status", "since", "cursor", "prefix"]).unwrap()
    }

    #[test]
    fn a_misspelt_parameter_is_an_error_with_the_right_word() {
        let error = Params::of(&Uri::from_static("/x?stauts=failed"), &["status", "limit"]).err().unwrap();
        assert!(format!("{error:?}").contains("did you mean `status`?"));
    }

    #[test]
    fn lists_come_by_commas_and_by_repetition() {
        assert_eq!(params("status=a,b&status=c&limit=1").all("status").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(params("limit=1&limit=2").limit().is_err());
        assert!(params("limit=0").limit().is_err() && params("limit=1001").limit().is_err());
        assert_eq!(params("limit=").limit().unwrap(), LIMIT_DEFAULT);
    }

    #[test]
    fn times_have_three_forms() {
        let time = |query: &str| params(query).time("since", Millis(10_000_000)).ok().flatten();
        assert_eq!(time("since=2h"), Some(Millis(10_000_000 - 7_200_000)));
        assert_eq!(time("since=1700000000000"), Some(Millis(1_700_000_000_000)));
        assert_eq!(time("since=2023-11-14T22:13:20Z"), Some(Millis(1_700_000_000_000)));
        assert!(params("since=yesterday").time("since", Millis(0)).is_err());
    }

    /// A row of some size; the ids count down from 1,000.
    struct Row(i64, usize);

    impl Entry for Row {
        fn id(&self) -> Id {
            Id(self.0)
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    fn rows(bytes: usize) -> impl Fn(Option<Id>, usize) -> Result<Vec<Row>, StoreError> {
        move |to, most| Ok((1..=to.map_or(1_000, |to| to.0.min(1_000))).rev().take(most).map(|id| Row(id, bytes)).collect())
    }

    #[test]
    fn pages_are_filled_across_reads_and_end_where_rows_are_large() {
        let ids = |page: &(Vec<Row>, Option<Id>)| (page.0.len(), page.0.last().map(|row| row.0), page.1.map(|id| id.0));
        let every = |_: &Row| true;
        assert_eq!(ids(&fill(100, SCANNED_MOST, None, every, rows(10)).unwrap()), (100, Some(901), Some(901)));
        assert_eq!(ids(&fill(100, SCANNED_MOST, Some(Id(100)), every, rows(10)).unwrap()), (100, Some(1), None));
        assert_eq!(ids(&fill(100, SCANNED_MOST, Some(Id(0)), every, rows(10)).unwrap()), (0, None, None));
        assert_eq!(ids(&fill(10, SCANNED_MOST, None, |row| row.0 % 100 == 0, rows(10)).unwrap()), (10, Some(100), None));
        assert_eq!(ids(&fill(9, SCANNED_MOST, None, |row| row.0 % 100 == 0, rows(10)).unwrap()), (9, Some(200), Some(200)));
        assert_eq!(ids(&fill(100, SCANNED_MOST, None, every, rows(1024 * 1024)).unwrap()), (5, Some(996), Some(996)));
        assert_eq!(ids(&fill(10, 100, None, |row| row.0 == 1, rows(10)).unwrap()), (0, None, Some(873)), "the next page looks on there");
    }

    #[test]
    fn a_cursor_narrows_a_prefix() {
        let (from, to) = params("prefix=0abc").bounds().unwrap();
        let cursor = Id(from.unwrap().0 + 7);
        assert_eq!(params(&format!("prefix=0abc&cursor={cursor}")).bounds().unwrap(), (from, Some(Id(cursor.0 - 1))));
        assert!(to.unwrap() > cursor);
        assert!(params("cursor=xyz").bounds().is_err() && params("prefix=u").bounds().is_err());
    }
}
