//! The way out, against listeners of the test's own.

#[cfg(test)]
mod calls;
