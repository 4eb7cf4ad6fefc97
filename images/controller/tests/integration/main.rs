//! The controller as its callers see it, with a real Redis (Debian: redis-server) and a runtime made here. Every
//! answer of the API is checked against openapi.yaml on the way.

mod support;

mod backpressure;
mod cancellation;
mod exactly_once;
mod executable;
mod fuzz;
mod openapi;
mod redis_failure;
mod sessions;
