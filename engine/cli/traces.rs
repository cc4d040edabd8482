//! Where traces go: `--otlp`, or the variables that OpenTelemetry names
//! (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).

use crate::exec::Export;

use super::exit::Trouble;
use super::remote::variable;

/// The path of traces below a collector's address.
const PATH: &str = "v1/traces";

/// Arguments of the commands that run an engine for long.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TraceOptions {
    /// Tell this collector of OpenTelemetry traces what runs did, by OTLP over HTTP with JSON, such as http://127.0.0.1:4318
    /// [default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else nobody]
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
}

impl TraceOptions {
    /// Where traces go; none where nobody wants them. `app` is the config's name for all of it.
    ///
    /// # Errors
    /// Exit 2 for an address or a header that is none.
    pub fn export(&self, app: Option<&str>) -> Result<Option<Export>, Trouble> {
        export(self.otlp.as_deref(), app, &|name| variable(name))
    }
}

fn export(given: Option<&str>, app: Option<&str>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Export>, Trouble> {
    let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|said| said.eq_ignore_ascii_case("none"));
    let below = |base: &str| format!("{}/{PATH}", base.trim_end_matches('/'));
    let url = match given {
        Some(base) => Some(below(base)),
        None if is_off => None,
        None => variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| below(&base))),
    };
    let Some(url) = url else { return Ok(None) };
    let bad =
        |why: String| Trouble::usage(format!("`{url}` is not the address of a collector: {why}")).help("such as http://127.0.0.1:4318");
    let parsed = reqwest::Url::parse(&url).map_err(|error| bad(error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad("it is neither http nor https".to_owned()));
    }
    let said = variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS").or_else(|| variable("OTEL_EXPORTER_OTLP_HEADERS")).unwrap_or_default();
    let headers = pairs(&said);
    for (name, value) in &headers {
        // The value may be a token, so it is not shown.
        if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() || reqwest::header::HeaderValue::from_str(value).is_err() {
            return Err(Trouble::usage(format!("the header `{name}` of OTEL_EXPORTER_OTLP_HEADERS is none")));
        }
    }
    let mut resource = pairs(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".to_owned(), name));
    }
    for (key, value) in [("service.name", app.unwrap_or("stepwell")), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if !resource.iter().any(|(known, _)| known == key) {
            resource.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(Some(Export { url, headers, resource }))
}

/// `a=1,b=2`, with the values percent-encoded.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_owned(), decoded(value.trim())))
    };
    text.split(',').filter_map(pair).filter(|(key, _)| !key.is_empty()).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(given: Option<&str>, variables: &[(&str, &str)]) -> Option<Export> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        export(given, Some("shop"), &find).unwrap()
    }

    #[test]
    fn nobody_is_told_unless_somebody_says_so() {
        assert!(with(None, &[]).is_none());
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        assert!(with(None, &[base, ("OTEL_SDK_DISABLED", "true")]).is_none());
        assert!(with(None, &[base, ("OTEL_TRACES_EXPORTER", "none")]).is_none());
        assert_eq!(with(None, &[base]).unwrap().url, "http://c:4318/v1/traces");
        assert_eq!(with(None, &[base, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://d/x")]).unwrap().url, "http://d/x");
        assert_eq!(with(Some("https://e"), &[base]).unwrap().url, "https://e/v1/traces");
        assert!(export(Some("ftp://e"), None, &|_| None).is_err());
    }

    #[test]
    fn headers_and_resource_are_read_as_opentelemetry_writes_them() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, x-tenant=7"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_SERVICE_NAME", "pay"),
        ];
        let export = with(Some("http://c"), &variables).unwrap();
        assert_eq!(export.headers, [("authorization".to_owned(), "Bearer x".to_owned()), ("x-tenant".to_owned(), "7".to_owned())]);
        let find = |key: &str| export.resource.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        assert_eq!((find("service.name"), find("deployment.environment.name")), (Some("pay"), Some("test")));
        assert_eq!(with(Some("http://c"), &[]).unwrap().resource[0], ("service.name".to_owned(), "shop".to_owned()));
    }
}
