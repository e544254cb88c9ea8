//! DAG files: what loads, what is refused and where.

mod assets;
mod bad_files;
mod conf;
mod docs;
mod loading;
mod made;
mod mutants;
mod outside;
mod rules;
