//! The engine under stories and under random histories, over a store made of maps that checks every guard.

mod dates;
mod people;
mod properties;
mod slots;
mod stories;
mod world;
