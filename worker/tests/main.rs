//! A worker as a process of its own against a server that speaks the protocol, with real tasks.

#[cfg(test)]
mod exchange;
#[cfg(test)]
mod helper;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod python;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trees;
