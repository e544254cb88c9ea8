//! The scheduler as its callers see it: a handle, a folder of DAG files, a store and a clock driven by hand.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod commits;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod world;
