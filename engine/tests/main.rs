//! Tests of the engine's public interface: one binary, a module per subject.

#[cfg(test)]
mod cost;
#[cfg(test)]
mod definition;
#[cfg(test)]
mod shell;
#[cfg(test)]
mod template;
