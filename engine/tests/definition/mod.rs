//! DAG files: what loads, what is refused and where.

mod bad_files;
mod conf;
mod loading;
mod made;
mod mutants;
