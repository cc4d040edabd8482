//! What somebody asks of a page or an action.

use axum::extract::Request;
use url::form_urlencoded;

use crate::base::Id;
use crate::server::{Params, Right};

use super::error::WebError;
use super::may_change;

/// A request of a page.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Whether the one who asks may change anything: what he may not do is shown, but cannot be pressed.
    pub may_change: bool,
    /// Whether he has logged in: then he can log out.
    pub has_session: bool,
    path: String,
    id: Option<String>,
    pairs: Vec<(String, String)>,
}

/// Who asks, as the door found out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub right: Right,
    pub has_session: bool,
}

impl Ask {
    /// The request, which the door let in.
    pub(super) fn of(request: &Request, id: Option<String>) -> Ask {
        let who = request.extensions().get::<Who>();
        let query = request.uri().query().unwrap_or_default();
        Ask {
            may_change: who.is_some_and(|who| may_change(who.right)),
            has_session: who.is_some_and(|who| who.has_session),
            path: request.uri().path().to_owned(),
            id,
            pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        }
    }

    /// What somebody asked for who is told no.
    pub(super) fn refused(has_session: bool) -> Ask {
        Ask { has_session, ..Ask::default() }
    }

    /// The decoded id in the route; empty where it has none.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// The id in the route as that of a row.
    ///
    /// # Errors
    /// 404 where it cannot be one; `what` says of what, such as `a run`.
    pub fn row_id(&self, what: &str) -> Result<Id, WebError> {
        let shown: String = self.id().chars().take(100).collect();
        self.id().parse().map_err(|_| WebError::not_found(format!("`{shown}` is no id of {what}: ids have 13 characters")))
    }

    /// A parameter; an empty one is as good as none.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter, by repetition and by commas.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.pairs.iter().filter(move |(key, _)| key == name).flat_map(|(_, value)| value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty())
    }

    /// All values of a parameter as they are, commas included.
    pub fn all_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.trim());
        values.filter(|value| !value.is_empty())
    }

    /// Whether a parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.one(name).is_some()
    }

    /// The part of the page that is wanted alone.
    pub fn part(&self) -> Option<&str> {
        self.one("part")
    }

    /// The path of the page.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// This page with parameters set, or removed. The part that was asked for and messages are never kept.
    pub fn with(&self, changes: &[(&str, Option<&str>)]) -> String {
        let is_kept = |name: &str| name != "part" && name != "said" && !changes.iter().any(|(changed, _)| *changed == name);
        let kept = self.pairs.iter().filter(|(name, value)| is_kept(name) && !value.is_empty());
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(kept);
        query.extend_pairs(changes.iter().filter_map(|(name, value)| value.map(|value| (*name, value))));
        let query = query.finish();
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }

    /// The parameters of these names, for the functions of the API; those that are empty are left out.
    pub fn params(&self, known: &[&str]) -> Params {
        let pairs = self.pairs.iter().filter(|(name, value)| known.contains(&name.as_str()) && !value.trim().is_empty());
        Params::from_pairs(pairs.map(|(name, value)| (name.clone(), value.trim().to_owned())).collect())
    }
}

/// The fields of a form that was posted.
#[derive(Debug, Clone, Default)]
pub struct Form(pub Vec<(String, String)>);

impl Form {
    /// A field; an empty one is as good as none.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// 400 where it is not.
    pub fn needed(&self, name: &str) -> Result<&str, WebError> {
        self.one(name).ok_or_else(|| WebError::bad_request(format!("the field `{name}` is missing")))
    }

    /// A field that must be the id of a row.
    ///
    /// # Errors
    /// 400 where it is not.
    pub fn id(&self, name: &str) -> Result<Id, WebError> {
        self.needed(name)?.parse().map_err(|_| WebError::bad_request(format!("the field `{name}` must be an id of 13 characters")))
    }

    /// All values of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// Every field, in order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The page that the form stands on, where it names one of ours; else the page at `otherwise`.
    pub fn back(&self, otherwise: &str) -> String {
        self.one("back").filter(|back| is_ours(back)).unwrap_or(otherwise).to_owned()
    }
}

/// Whether a browser that is sent there stays with us: `//host` and `/\host` lead to others.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with('/') && !path[1..].starts_with(['/', '\\']) && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(uri: &str) -> Ask {
        Ask::of(&Request::builder().uri(uri).body(axum::body::Body::empty()).unwrap(), None)
    }

    #[test]
    fn a_page_leads_to_itself_with_other_parameters() {
        let ask = ask("/runs?status=failed&function=a%20b&part=rows&cursor=1&where=");
        assert_eq!(ask.with(&[("cursor", None), ("key", Some("ü&1"))]), "/runs?status=failed&function=a+b&key=%C3%BC%261");
        assert_eq!(ask.with(&[("cursor", None), ("status", None), ("function", None)]), "/runs");
        assert_eq!(ask.part(), Some("rows"));
        assert!(!ask.has("where"));
    }

    #[test]
    fn forms_lead_back_to_pages_of_ours_alone() {
        for (back, leads) in
            [("/runs?x=1", "/runs?x=1"), ("//evil.example", "/"), ("/\\evil.example", "/"), ("https://e", "/"), ("/a\nb", "/")]
        {
            assert_eq!(Form(vec![("back".into(), back.into())]).back("/"), leads, "{back}");
        }
    }
}
