//! The kernels of the engine as a crate of their own. Its tests are theirs: so the NEON table is compiled and held to
//! the scalar one under emulation, without building the whole engine for that CPU.
#![allow(dead_code, reason = "the engine uses what no test does")]

#[path = "../../engine/src/simd/mod.rs"]
pub mod simd;
