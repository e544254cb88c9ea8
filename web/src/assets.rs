//! Files of the binary, under names that carry their hash, cached for ever.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::error::Problem;

struct Asset {
    name: String,
    kind: &'static str,
    bytes: &'static [u8],
}

/// The URLs that pages refer to.
pub(crate) struct Urls {
    pub(crate) css: String,
    pub(crate) js: String,
    pub(crate) htmx: String,
    pub(crate) logo: String,
}

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        asset("app", "css", "text/css; charset=utf-8", include_bytes!("../assets/app.css")),
        asset("app", "js", "text/javascript; charset=utf-8", include_bytes!("../assets/app.js")),
        asset(
            "htmx",
            "js",
            "text/javascript; charset=utf-8",
            include_bytes!("../assets/vendor/htmx-4.0.1.min.js"),
        ),
        asset("logo", "svg", "image/svg+xml", include_bytes!("../assets/logo.svg")),
    ]
});

pub(crate) static URLS: LazyLock<Urls> = LazyLock::new(|| {
    let url = |index: usize| format!("/static/{}", ASSETS[index].name);
    Urls { css: url(0), js: url(1), htmx: url(2), logo: url(3) }
});

fn asset(stem: &str, extension: &str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    let hash = hex::encode(Sha256::digest(bytes));
    Asset { name: format!("{stem}-{}.{extension}", &hash[..12]), kind, bytes }
}

/// Serves one of the files; there is no folder behind it.
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => (
            StatusCode::OK,
            [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.bytes,
        )
            .into_response(),
        None => Problem::not_found("such file").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_within_their_budgets_and_hold_nothing_inline() {
        let size = |index: usize| ASSETS[index].bytes.len();
        assert!(size(0) <= 40_000, "css has {} bytes", size(0));
        assert!(size(1) + size(2) <= 120_000, "js has {} bytes", size(1) + size(2));
        let script = String::from_utf8_lossy(ASSETS[1].bytes);
        for word in ["eval(", "new Function", ".style.", "innerHTML"] {
            assert!(!script.contains(word), "{word}");
        }
    }
}
