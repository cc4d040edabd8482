//! The files that pages need, within the program: each under a name with its content's hash, so that browsers keep it for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::base::hex;

/// One file.
struct Asset {
    stem: &'static str,
    extension: &'static str,
    kind: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset { stem: "style", extension: "css", kind: "text/css; charset=utf-8", text: include_str!("assets/style.css") },
    Asset { stem: "app", extension: "js", kind: "text/javascript; charset=utf-8", text: include_str!("assets/app.js") },
    Asset { stem: "htmx", extension: "js", kind: "text/javascript; charset=utf-8", text: include_str!("assets/htmx.min.js") },
    Asset { stem: "icon", extension: "svg", kind: "image/svg+xml", text: include_str!("assets/icon.svg") },
];

/// The paths of all files, in the order of `ASSETS`.
static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| ASSETS.iter().map(Asset::path).collect());

impl Asset {
    fn path(&self) -> String {
        let hash = hex::encode(&Sha256::digest(self.text.as_bytes())[..6]);
        format!("/assets/{}-{hash}.{}", self.stem, self.extension)
    }
}

/// The path of a file by its name, such as `style`.
pub(super) fn path(stem: &str) -> &'static str {
    let at = ASSETS.iter().position(|asset| asset.stem == stem);
    at.map_or("/assets/", |at| PATHS[at].as_str())
}

/// `GET /assets/{name}`
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    const FOR_GOOD: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    let found = PATHS.iter().position(|path| path.strip_prefix("/assets/") == Some(&name));
    match found.map(|at| &ASSETS[at]) {
        Some(asset) => ([FOR_GOOD, (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind))], asset.text).into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such file").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_are_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes < 300 * 1024 * 2 / 3, "{bytes} bytes leave too little for the pages");
    }

    #[test]
    fn the_styles_and_the_script_ask_nobody_else_for_anything() {
        for asset in ASSETS.iter().filter(|asset| asset.stem != "icon") {
            for word in ["http://", "https://", "@import", "url("] {
                assert!(!asset.text.contains(word), "{} holds `{word}`", asset.stem);
            }
        }
    }
}
