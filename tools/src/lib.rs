//! Measuring programs. They share no code with the product, so that a bug cannot cancel itself out.
#![warn(missing_docs)]

pub mod callload;
