//! A problem of a DAG file and its places. The JSON shape is the one of `dags check --format json`.

use std::ops::Range;

use serde::Serialize;

use super::code::Code;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file is not loaded.
    Error,
    /// The file is loaded; something is probably not meant.
    Warning,
}

impl Severity {
    /// Returns the word of the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in the file: lines and columns from 1, columns in characters, ends inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub col: u32,
    /// Line of the last character.
    pub end_line: u32,
    /// Column of the last character.
    pub end_col: u32,
    /// What is to be seen there.
    pub label: String,
    /// The same place in bytes of the source as it was given, for renderers of snippets.
    #[serde(skip)]
    pub bytes: Range<usize>,
}

/// Something that is wrong with a DAG file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its stable code.
    pub code: Code,
    /// Whether the file is still loaded.
    pub severity: Severity,
    /// What is wrong, one sentence without a final period.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The text that was probably meant, to be put in place of the first span.
    pub suggestion: Option<String>,
    /// The places; the first is the main one.
    pub spans: Vec<Span>,
}

impl Problem {
    /// Whether the file is refused because of it.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self.severity, Severity::Error)
    }

    /// Returns the main place as (line, column), for sorting.
    #[must_use]
    pub fn place(&self) -> (u32, u32) {
        self.spans.first().map_or((0, 0), |span| (span.line, span.col))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl miette::Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        if self.spans.is_empty() {
            return None;
        }
        Some(Box::new(self.spans.iter().enumerate().map(|(index, span)| {
            let label = (!span.label.is_empty()).then(|| span.label.clone());
            if index == 0 {
                miette::LabeledSpan::new_primary_with_span(label, span.bytes.clone())
            } else {
                miette::LabeledSpan::new_with_span(label, span.bytes.clone())
            }
        })))
    }
}

/// Collects the problems of one file and turns byte ranges into places.
pub(crate) struct Report<'a> {
    text: &'a str,
    /// Bytes that were cut off before `text` (a byte order mark).
    offset: usize,
    line_starts: Vec<usize>,
    /// Bytes of `text` that the file does not have.
    inserted: Vec<Range<usize>>,
    problems: Vec<Draft>,
    errors: usize,
}

/// A problem before its places are known; built with the methods below and finished by [`Report::finish`].
pub(crate) struct Draft {
    code: Code,
    severity: Severity,
    message: String,
    help: Option<String>,
    suggestion: Option<String>,
    spans: Vec<(Range<usize>, String)>,
    is_absence: bool,
}

impl Draft {
    /// An error at a place.
    pub(crate) fn error(code: Code, message: impl Into<String>, at: Range<usize>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            help: None,
            suggestion: None,
            spans: vec![(at, String::new())],
            is_absence: false,
        }
    }

    /// A warning at a place.
    pub(crate) fn warning(code: Code, message: impl Into<String>, at: Range<usize>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message, at) }
    }

    /// Says what is to be seen at the place added last.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        if let Some(span) = self.spans.last_mut() {
            span.1 = label.into();
        }
        self
    }

    /// Adds another place.
    pub(crate) fn also(mut self, at: Range<usize>, label: impl Into<String>) -> Self {
        self.spans.push((at, label.into()));
        self
    }

    /// Says what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Offers the text that was probably meant, if there is one, and says so where nothing else is said.
    pub(crate) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        if let (None, Some(text)) = (&self.help, &self.suggestion) {
            self.help = Some(format!("did you mean `{text}`?"));
        }
        self
    }

    /// Marks a problem that may only be there because a syntax error hides something.
    pub(crate) const fn absence(mut self) -> Self {
        self.is_absence = true;
        self
    }
}

/// How many problems of one file are shown.
pub const SHOWN: usize = 20;

impl<'a> Report<'a> {
    pub(crate) fn new(text: &'a str, offset: usize) -> Self {
        let mut line_starts = vec![0];
        line_starts.extend(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1));
        Self { text, offset, line_starts, inserted: Vec::new(), problems: Vec::new(), errors: 0 }
    }

    /// The source, without a byte order mark.
    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    /// Says which bytes of the text the file does not have; they stand at the ends of lines.
    pub(crate) fn with_inserted(mut self, inserted: Vec<Range<usize>>) -> Self {
        self.inserted = inserted;
        self
    }

    /// The byte of the file, with a byte order mark.
    fn in_file(&self, byte: usize) -> usize {
        let more: usize =
            self.inserted.iter().map(|range| byte.clamp(range.start, range.end) - range.start).sum();
        byte - more + self.offset
    }

    pub(crate) fn push(&mut self, draft: Draft) {
        self.errors += usize::from(draft.severity == Severity::Error);
        self.problems.push(draft);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are so far: a reader compares it to see whether its part is good.
    pub(crate) const fn error_count(&self) -> usize {
        self.errors
    }

    fn line_of(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= byte).saturating_sub(1)
    }

    fn column(&self, line: usize, byte: usize) -> u32 {
        let start = self.line_starts.get(line).copied().unwrap_or(0);
        let count = self.text.get(start..byte).map_or(0, |part| part.chars().count());
        u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Returns a place of which something may be said later.
    pub(crate) fn place(&self, range: &Range<usize>) -> Span {
        self.span(range, String::new())
    }

    /// Returns the place of a byte range.
    pub(crate) fn span(&self, range: &Range<usize>, label: String) -> Span {
        let floor = |mut byte: usize| {
            byte = byte.min(self.text.len());
            while !self.text.is_char_boundary(byte) {
                byte -= 1;
            }
            byte
        };
        let start = floor(range.start);
        let end = floor(range.end).max(start);
        // The last character inside; an empty place is one character wide so that it can be drawn.
        let last = self
            .text
            .get(start..end)
            .and_then(|part| part.trim_end_matches(['\r', '\n']).char_indices().last())
            .map_or(start, |(index, _)| start + index);
        let (line, end_line) = (self.line_of(start), self.line_of(last));
        let number = |line: usize| u32::try_from(line + 1).unwrap_or(u32::MAX);
        Span {
            line: number(line),
            col: self.column(line, start),
            end_line: number(end_line),
            end_col: self.column(end_line, last),
            label,
            bytes: self.in_file(start)..self.in_file(end),
        }
    }

    /// Turns the drafts into problems in file order, at most [`SHOWN`] and a note about the rest.
    ///
    /// After a syntax error, what is only missing is not reported (it may be there, unread), and neither is
    /// anything else on a broken line: a second complaint about one mistake hides the first.
    pub(crate) fn finish(self, syntax_errors: &[Range<usize>]) -> Vec<Problem> {
        let broken: std::collections::BTreeSet<usize> =
            syntax_errors.iter().map(|range| self.line_of(range.start)).collect();
        let is_kept = |draft: &Draft| {
            if broken.is_empty() || matches!(draft.code, Code::SYNTAX | Code::TOO_DEEP | Code::MERGE_CONFLICT)
            {
                return true;
            }
            let line = draft.spans.first().map(|(range, _)| self.line_of(range.start));
            !draft.is_absence && line.is_none_or(|line| !broken.contains(&line))
        };
        let mut problems: Vec<Problem> = Vec::new();
        for draft in self.problems.iter().filter(|draft| is_kept(draft)) {
            problems.push(Problem {
                code: draft.code,
                severity: draft.severity,
                message: draft.message.clone(),
                help: draft.help.clone(),
                suggestion: draft.suggestion.clone(),
                spans: draft.spans.iter().map(|(range, label)| self.span(range, label.clone())).collect(),
            });
        }
        // Errors first while choosing what is shown, then everything in file order.
        problems.sort_by_key(|p| (p.severity, p.place(), p.code));
        problems.dedup();
        let hidden = problems.split_off(problems.len().min(SHOWN));
        problems.sort_by_key(|p| (p.place(), p.severity, p.code));
        if let Some(first) = hidden.first() {
            let count = hidden.len();
            problems.push(Problem {
                code: Code::MORE_PROBLEMS,
                severity: first.severity,
                message: format!(
                    "{count} more problem{} not shown",
                    if count == 1 { " is" } else { "s are" }
                ),
                help: Some("correct the ones above and check again".to_owned()),
                suggestion: None,
                spans: Vec::new(),
            });
        }
        problems
    }
}
