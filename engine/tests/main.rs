//! Tests of the engine's public interface.

mod definition;
