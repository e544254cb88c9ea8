//! `tidemill explain CODE`: the page of an error code, embedded at build time.

use crate::{
    error::{CliError, Result},
    output::{Format, FormatArg, Table, print, print_json},
};

/// Every page: its code and its text.
const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

/// Explains an error code: what it means, why it happens, what to do.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as DAG0102; without one all codes are listed.
    code: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// Returns the title of a page: the text after `# CODE: `.
fn title(page: &str) -> &str {
    page.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, title)| title)
}

pub(crate) fn run(args: &ExplainArgs) -> Result {
    let Some(code) = &args.code else {
        return list(args.format.format);
    };
    let wanted = code.trim().to_ascii_uppercase();
    let Some((code, page)) = PAGES.iter().find(|(code, _)| *code == wanted) else {
        let mut near: Vec<_> = PAGES
            .iter()
            .map(|(code, _)| (strsim::damerau_levenshtein(code, &wanted), *code))
            .filter(|(distance, _)| *distance <= 2)
            .collect();
        near.sort_unstable();
        let near = near.into_iter().take(3).map(|(_, code)| code.to_owned()).collect();
        return Err(CliError::UnknownCode { code: code.clone(), near });
    };
    match args.format.format {
        Format::Table => print(page)?,
        Format::Json => {
            print_json(&serde_json::json!({ "code": code, "title": title(page), "text": page }))?;
        }
    }
    Ok(())
}

fn list(format: Format) -> Result {
    match format {
        Format::Table => {
            let mut table = Table::new(&["CODE", "TITLE"]);
            for (code, page) in PAGES {
                table.row([*code, title(page)]);
            }
            table.print()?;
        }
        Format::Json => {
            let codes: Vec<_> = PAGES
                .iter()
                .map(|(code, page)| serde_json::json!({ "code": code, "title": title(page) }))
                .collect();
            print_json(&codes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_titled_with_its_code() {
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
            assert!(!title(page).is_empty(), "{code}");
        }
        assert!(PAGES.len() > 10, "{} pages", PAGES.len());
    }
}
