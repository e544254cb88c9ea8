//! DAG files: what loads, what is refused and where.

mod loading;
