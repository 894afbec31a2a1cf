//! Facts about the machine: what it is, and how it is set up for media. Read only, without starting other programs, and
//! as far as the process's privileges go; what cannot be known is `None`.

pub mod ethtool;
pub mod interface;
pub mod link;
pub mod machine;
pub mod rss;
pub mod steering;
mod text;

pub use interface::Interface;
pub use machine::Machine;
