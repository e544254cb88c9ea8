//! The engine under stories and under random histories, over a store made of maps that checks every guard.

mod properties;
mod stories;
mod world;
