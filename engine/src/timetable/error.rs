//! Why a schedule was refused: which field, what is wrong with it, and what to write instead.

use std::{fmt, ops::Range};

/// A field of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CronField {
    /// The optional leading field.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12, or a name.
    Month,
    /// 0 to 7 (both are Sunday), or a name.
    DayOfWeek,
}

impl CronField {
    /// Returns the field's name in a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
        }
    }

    /// Returns the smallest and the largest value that may be written.
    #[must_use]
    pub const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is wrong with a field of a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronProblem {
    /// Nothing between two commas, or around a `-` or `/`.
    #[error("something is missing here")]
    Missing,
    /// Neither a number nor a name of this field.
    #[error("{0:?} is not a number or a name")]
    NotAValue(String),
    /// Outside the field's bounds.
    #[error("{value} is out of range: it goes from {min} to {max}")]
    OutOfRange {
        /// As written.
        value: String,
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
    },
    /// The range runs backwards.
    #[error("the range {from}-{to} runs backwards")]
    Backwards {
        /// Where it begins.
        from: u32,
        /// Where it ends.
        to: u32,
    },
    /// A step of zero, or no number.
    #[error("{0:?} is not a step: a step is a whole number from 1")]
    BadStep(String),
    /// A letter or sign of another dialect (`?`, `L`, `W`, `#`).
    #[error("{0:?} belongs to another cron dialect and is not supported")]
    Dialect(char),
}

/// Why a schedule was refused. Spans are byte ranges in the expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimetableError {
    /// Not five or six fields.
    #[error("a cron expression has five fields (or six with leading seconds), this one has {count}")]
    FieldCount {
        /// The expression.
        expression: String,
        /// How many there are.
        count: usize,
    },
    /// A field cannot be read.
    #[error("{field} field: {problem}")]
    Field {
        /// The expression.
        expression: String,
        /// Which field.
        field: CronField,
        /// Where in the expression, in bytes.
        span: Range<usize>,
        /// What is wrong.
        problem: CronProblem,
    },
    /// An `@word` that is no preset.
    #[error("there is no preset {name:?}")]
    UnknownPreset {
        /// As written.
        name: String,
        /// The nearest preset.
        suggestion: Option<&'static str>,
    },
    /// `@once` or `@continuous` within a list of cron expressions.
    #[error("{name} stands alone, it cannot be part of a list of cron expressions")]
    NotInList {
        /// As written.
        name: String,
    },
    /// No date matches until the year 2100.
    #[error("{expression:?} never fires: no date matches it")]
    NeverFires {
        /// The expression.
        expression: String,
    },
    /// A list of cron expressions without an element.
    #[error("the list of cron expressions is empty")]
    NoExpression,
    /// `every` under a second or not in whole seconds: logical dates are told apart by the second.
    #[error("`every` must be a whole number of seconds, at least 1s")]
    EveryTooShort,
    /// `every` over a hundred years.
    #[error("`every` must not be longer than 36500 days")]
    EveryTooLong,
}

impl TimetableError {
    /// Returns the bytes of the expression that are meant; absent: the whole of it.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Self::Field { span, .. } => Some(span.clone()),
            _ => None,
        }
    }

    /// Returns what to write instead of the meant bytes, where it is known.
    #[must_use]
    pub fn suggestion(&self) -> Option<String> {
        match self {
            Self::UnknownPreset { suggestion, .. } => suggestion.map(str::to_owned),
            Self::Field { field, problem: CronProblem::Backwards { from, to }, .. } => {
                let (min, max) = field.bounds();
                let max = if *field == CronField::DayOfWeek { 6 } else { max };
                Some(format!("{from}-{max},{min}-{to}"))
            }
            Self::Field { field, problem: CronProblem::NotAValue(word), .. } => {
                let short: String = word.chars().take(3).collect::<String>().to_ascii_uppercase();
                let is_name = super::fields::names(*field).contains(&short.as_str());
                is_name.then_some(short)
            }
            Self::Field { problem: CronProblem::Dialect('?'), .. } => Some("*".to_owned()),
            _ => None,
        }
    }

    /// Returns what to do about it, in a sentence.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::FieldCount { .. } => {
                "The fields are: minute, hour, day of month, month, day of week. `0 6 * * MON` is every Monday at 06:00."
                    .to_owned()
            }
            Self::Field { field, problem, .. } => field_help(*field, problem),
            Self::UnknownPreset { .. } => format!("Presets are {}.", super::PRESETS.map(|p| p.0).join(", ")),
            Self::NotInList { name } => format!("Write `schedule = \"{name}\"`."),
            Self::NeverFires { .. } => {
                "No year until 2100 has such a date. Check day of month against month (30 February, 31 April).".to_owned()
            }
            Self::NoExpression => {
                "Write at least one expression, or leave `schedule` out for a DAG that only runs when triggered."
                    .to_owned()
            }
            Self::EveryTooShort => {
                "Write for example `{ every = \"15m\" }`. `@continuous` starts a run as soon as the last one has ended."
                    .to_owned()
            }
            Self::EveryTooLong => "Leave `schedule` out for a DAG that only runs when triggered.".to_owned(),
        }
    }
}

fn field_help(field: CronField, problem: &CronProblem) -> String {
    match problem {
        CronProblem::Dialect('L') => {
            "For the last day of a month run on the first of the next one: with `timetable = \"interval\"` its data interval is the month."
                .to_owned()
        }
        CronProblem::Dialect('?') => "Write `*` for a field that does not matter.".to_owned(),
        CronProblem::Dialect(_) => "Use lists, ranges, steps and names.".to_owned(),
        CronProblem::Backwards { .. } => "Write two ranges.".to_owned(),
        CronProblem::BadStep(_) => "A step follows `*` or a range: `*/15`, `8-18/2`.".to_owned(),
        CronProblem::Missing | CronProblem::NotAValue(_) | CronProblem::OutOfRange { .. } => match field {
            CronField::Month => "Months are 1 to 12 or JAN to DEC.".to_owned(),
            CronField::DayOfWeek => "Days of the week are 0 to 7 (0 and 7 are Sunday) or SUN to SAT.".to_owned(),
            _ => {
                let (min, max) = field.bounds();
                format!("This field takes `*`, numbers from {min} to {max}, lists `1,2`, ranges `1-5` and steps `*/2`.")
            }
        },
    }
}
