//! What scripts write and build is read by the supervisor: whatever it is, that must neither fail nor cost too much.

mod frames;
mod scratch;
