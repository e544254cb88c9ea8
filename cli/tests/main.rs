//! The real binary: help, shapes of output, wrong input, exit codes, and a server from start to stop.

#[cfg(test)]
mod client;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod files;
#[cfg(test)]
mod help;
#[cfg(test)]
mod importing;
#[cfg(test)]
mod mill;
#[cfg(test)]
mod server;
#[cfg(test)]
mod standalone;
