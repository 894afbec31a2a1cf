//! Measuring programs. They share no code with the product, so that a bug cannot cancel itself out; only `rtpload` sends
//! through the product's AF_XDP rings, and checks what comes back by itself.
#![warn(missing_docs)]

pub mod callload;
mod figures;
pub mod relaybench;
pub mod rtpload;
