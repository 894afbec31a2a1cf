//! As much of rtpengine's NG protocol as setting up two-party calls takes: `ping`, `offer`, `answer`, `delete`, bencoded in UDP.

mod bencode;
mod client;
mod sdp;

pub(super) use client::{Call, Client, Wanted};
