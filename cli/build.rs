//! Embeds the pages of the error codes, so that `tidemill explain CODE` needs no files.

use std::{env, fmt::Write as _, fs, io, path::Path};

fn main() -> Result<(), io::Error> {
    let here = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let folder = Path::new(&here).join("../docs/errors");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            names.push(path);
        }
    }
    names.sort();
    let mut table = String::from("&[\n");
    for path in names {
        println!("cargo:rerun-if-changed={}", path.display());
        let path = path.canonicalize()?;
        let code = path.file_stem().unwrap_or_default().to_string_lossy();
        // Only CODE.md: a README beside the pages is none of them.
        let is_code = code.len() == 7 && code.bytes().skip(3).all(|byte| byte.is_ascii_digit());
        if is_code {
            writeln!(table, "    ({code:?}, include_str!({path:?})),").map_err(io::Error::other)?;
        }
    }
    table.push_str("]\n");
    fs::write(Path::new(&out).join("error_pages.rs"), table)
}
