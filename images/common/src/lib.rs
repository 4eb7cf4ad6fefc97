//! What the controller and the runtimes share: both read the same JSON, so that neither takes what the other refuses.

pub mod configuration;
pub mod digest;
pub mod json;
