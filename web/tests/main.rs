//! The web server over a real scheduler and the memory store, called as a browser, a machine and a worker do.

#[cfg(test)]
mod web;
