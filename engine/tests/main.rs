//! Tests of the engine's public interface: one binary, a module per subject.

mod definition;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod template;
