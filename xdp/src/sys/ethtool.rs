//! One command of the `SIOCETHTOOL` ioctl (`include/uapi/linux/ethtool.h`).
#![expect(unsafe_code, reason = "the ioctl takes a pointer to a structure that depends on the command")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Sends `words`, whose first is the command, to the driver of `interface`, and has the answer in their place.
///
/// # Errors
/// The kernel's, such as `EOPNOTSUPP`; `InvalidInput` for a buffer that the kernel could write past.
pub(crate) fn ethtool(socket: BorrowedFd<'_>, interface: &str, words: &mut [u32]) -> io::Result<()> {
    let [command, ..] = *words else { return Err(io::ErrorKind::InvalidInput.into()) };
    if longest_answer(command, words).is_none_or(|longest| longest > 4 * words.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut name = [0; libc::IFNAMSIZ];
    if interface.is_empty() || interface.len() >= name.len() || interface.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: words.as_mut_ptr().cast() },
    };
    // SAFETY: the request and the words live through the call; `longest_answer` bounds what the kernel writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many bytes the kernel may read or write for a command (`net/ethtool/ioctl.c`), given what it is told of the
/// buffer; `None` for commands that are not used here.
fn longest_answer(command: u32, words: &[u32]) -> Option<usize> {
    let word = |index: usize| words.get(index).map(|&value| value as usize);
    match command {
        GDRVINFO => Some(196),
        GCOALESCE => Some(92),
        GRINGPARAM | GCHANNELS => Some(36),
        // One string set is asked for; the kernel answers with one count.
        GSSET_INFO if word(2) == Some(1 << SS_FEATURES) && word(3) == Some(0) => Some(16 + 4),
        // All strings, whatever the buffer says: there is one per bit of a mask of 64 (`netdev_features_t`).
        GSTRINGS if word(1) == Some(SS_FEATURES as usize) => Some(12 + 32 * MOST_FEATURES),
        // At most as many blocks as the buffer says.
        GFEATURES => Some(8 + 16 * word(1)?),
        // At most as many table entries and key bytes as the buffer says.
        GRSSH => Some(24 + 4 * word(2)? + word(3)?),
        GRXFH | GRXRINGS | GRXCLSRLCNT | GRXCLSRULE | SRXCLSRLDEL | SRXCLSRLINS => Some(192),
        // At most as many rules as the buffer says (`rule_cnt`).
        GRXCLSRLALL => Some(192 + 4 * word(46)?),
        _ => None,
    }
}

const SIOCETHTOOL: u32 = 0x8946;

pub(crate) const GDRVINFO: u32 = 0x3;
pub(crate) const GCOALESCE: u32 = 0xe;
pub(crate) const GRINGPARAM: u32 = 0x10;
pub(crate) const GSTRINGS: u32 = 0x1b;
pub(crate) const GRXFH: u32 = 0x29;
pub(crate) const GRXRINGS: u32 = 0x2d;
pub(crate) const GRXCLSRLCNT: u32 = 0x2e;
pub(crate) const GRXCLSRULE: u32 = 0x2f;
pub(crate) const GRXCLSRLALL: u32 = 0x30;
pub(crate) const SRXCLSRLDEL: u32 = 0x31;
pub(crate) const SRXCLSRLINS: u32 = 0x32;
pub(crate) const GSSET_INFO: u32 = 0x37;
pub(crate) const GFEATURES: u32 = 0x3a;
pub(crate) const GCHANNELS: u32 = 0x3c;
pub(crate) const GRSSH: u32 = 0x46;

/// `ETH_SS_FEATURES`.
pub(crate) const SS_FEATURES: u32 = 4;

/// More than there are, so that a newer kernel fits, too.
pub(crate) const MOST_FEATURES: usize = 512;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn socket() -> std::net::UdpSocket {
        std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket")
    }

    #[test]
    fn a_buffer_that_is_too_short_or_a_strange_command_is_refused() {
        let socket = socket();
        for command in
            [GDRVINFO, GCOALESCE, GCHANNELS, GRSSH, GSTRINGS, GRXCLSRULE, GRXCLSRLALL, 0, 0x15, u32::MAX]
        {
            let error = ethtool(socket.as_fd(), "lo", &mut [command, 4, 1]).expect_err("too short");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{command}");
        }
        let mut words = [0; 192];
        (words[0], words[2], words[3]) = (GRSSH, 128, 1000);
        assert!(ethtool(socket.as_fd(), "lo", &mut words).is_err(), "the key would not fit");
        assert!(ethtool(socket.as_fd(), "lo", &mut []).is_err());
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        for name in ["", "st-none", "a-name-that-is-too-long-for-linux", "a\0b"] {
            let error = ethtool(socket().as_fd(), name, &mut [GCHANNELS; 9]).expect_err("no such interface");
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
