//! Prints errors for people: on stderr, with code, place and help; in colour only where it is wanted.

use std::{
    fmt,
    io::{IsTerminal, Write},
    ops::Range,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
};

use crate::error::CliError;

static IS_COLORED: AtomicBool = AtomicBool::new(false);

/// When output is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Decides for the rest of the process.
    pub(crate) fn apply(self, has_no_color: bool) {
        let is_colored = match self {
            Self::Auto => !has_no_color && std::io::stderr().is_terminal(),
            Self::Always => true,
            Self::Never => false,
        };
        IS_COLORED.store(is_colored, Ordering::Relaxed);
    }
}

/// Whether stderr is coloured.
pub(crate) fn is_colored() -> bool {
    IS_COLORED.load(Ordering::Relaxed)
}

/// A diagnostic with its source text.
pub(crate) struct Shown<'a> {
    pub(crate) code: &'a str,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) labels: Vec<(Range<usize>, String)>,
    pub(crate) source: Option<NamedSource<String>>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.code.is_empty()).then(|| Box::new(self.code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.labels.iter().map(|(span, text)| {
            LabeledSpan::new_with_span((!text.is_empty()).then(|| text.clone()), span.clone())
        });
        (!self.labels.is_empty()).then(|| Box::new(labels) as Box<dyn Iterator<Item = LabeledSpan>>)
    }
}

/// Renders a diagnostic as text.
pub(crate) fn render(diagnostic: &dyn Diagnostic) -> String {
    let theme = if is_colored() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
    // Writing to a string does not fail.
    let _ = handler.render_report(&mut text, diagnostic);
    text
}

/// Writes a line to stderr. A closed stderr is nobody's business.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// When the first line about something that takes long is written; the pauses double from there to the longest.
const FIRST_PROGRESS: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Says on stderr, while it lives, that something that takes long goes on. Lines, never a moving bar: they end up in
/// the logs of tasks.
pub(crate) struct Progress {
    ended: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins; `more` is asked for each line and may be empty.
    pub(crate) fn start(what: &'static str, more: impl Fn() -> String + Send + 'static) -> Self {
        let (ended, is_ended) = mpsc::channel::<()>();
        let begun = Instant::now();
        let thread = std::thread::Builder::new().spawn(move || {
            let mut pause = FIRST_PROGRESS;
            while is_ended.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(format!("{what}: {} s so far{}", begun.elapsed().as_secs(), more()));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
        // Without a thread the work is done all the same, in silence.
        Self { ended: Some(ended), thread: thread.ok() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Shows an error on stderr.
pub(crate) fn show(error: &CliError) {
    match error {
        CliError::Exit(_) => {}
        CliError::Config { path, text, problems } => {
            for problem in problems {
                let name = path.display().to_string();
                let shown = Shown {
                    code: problem.code,
                    severity: Severity::Error,
                    message: problem.message.clone(),
                    help: problem.help.clone(),
                    labels: problem.span.clone().map(|span| (span, String::new())).into_iter().collect(),
                    source: Some(NamedSource::new(name, text.to_string())),
                };
                say(render(&shown).trim_end());
            }
        }
        other => {
            let mut message = other.to_string();
            for cause in other.causes() {
                // Causes of other crates often repeat what their parent says.
                if !message.contains(&cause) {
                    message.push_str(": ");
                    message.push_str(&cause);
                }
            }
            let shown = Shown {
                code: other.code(),
                severity: Severity::Error,
                message,
                help: other.help(),
                labels: Vec::new(),
                source: None,
            };
            say(render(&shown).trim_end());
        }
    }
}
