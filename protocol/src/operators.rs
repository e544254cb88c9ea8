//! What the operators that run on a worker are told, rendered.

pub use tidemill_engine::{
    definition::{
        http::HttpSpec,
        python::{PythonSpec, PythonTarget},
        sql::{SqlSpec, SqlTask},
    },
    template::AnswerCondition,
};
