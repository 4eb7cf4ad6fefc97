//! The real supervisor, with the real workers and interpreters of this machine, as a client sees it.
//!
//! Needs node, python3 and rustc on PATH; a kernel without Landlock fails the tests of what only Landlock stops.

mod attacks;
mod contract;
mod deadline;
mod harness;
mod load;
mod printed;
mod reuse;
