//! What the kernel says of an interface by netlink: the XDP program on it, and what its driver can do for XDP.

use std::io;

use rustix::fd::OwnedFd;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    sockopt,
};

/// The program on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attached {
    /// None.
    #[default]
    None,
    /// One in the driver.
    Native,
    /// One in the kernel's receive path.
    Generic,
    /// One in the hardware.
    Offloaded,
    /// Several.
    Several,
}

/// What a driver can do for XDP (`XDP_FEATURES` of the netdev family).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Programs in the driver (`XDP_DROP`, `XDP_PASS`, `XDP_TX`).
    pub native: bool,
    /// `XDP_REDIRECT`.
    pub redirect: bool,
    /// Frames redirected to it are sent.
    pub redirect_target: bool,
    /// AF_XDP without copies.
    pub zero_copy: bool,
}

/// The program on the interface with this index.
///
/// # Errors
/// The kernel's.
pub fn attached(index: u32) -> io::Result<Attached> {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    let answer = ask(None, RTM_GETLINK, &body)?;
    Ok(parse_attached(answer.get(16..).unwrap_or_default()))
}

/// The attributes of a link.
fn parse_attached(attributes: &[u8]) -> Attached {
    let nested =
        Attributes(attributes).find(|(kind, _)| *kind == IFLA_XDP).map_or(&[][..], |(_, value)| value);
    match Attributes(nested).find(|(kind, _)| *kind == IFLA_XDP_ATTACHED) {
        Some((_, &[1])) => Attached::Native,
        Some((_, &[2])) => Attached::Generic,
        Some((_, &[3])) => Attached::Offloaded,
        Some((_, &[4])) => Attached::Several,
        _ => Attached::None,
    }
}

/// What the driver of the interface with this index can do for XDP.
///
/// # Errors
/// The kernel's: before Linux 6.3 there is no such family (`ENOENT`).
pub fn xdp_features(index: u32) -> io::Result<XdpFeatures> {
    let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
    push_attribute(&mut body, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let answer = ask(Some(GENERIC), GENL_ID_CTRL, &body)?;
    let family = Attributes(answer.get(4..).unwrap_or_default())
        .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
        .and_then(|(_, value)| Some(u16::from_ne_bytes(*value.first_chunk()?)))
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![NETDEV_CMD_DEV_GET, 1, 0, 0];
    push_attribute(&mut body, NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let answer = ask(Some(GENERIC), family, &body)?;
    Attributes(answer.get(4..).unwrap_or_default())
        .find(|(kind, _)| *kind == NETDEV_A_DEV_XDP_FEATURES)
        .and_then(|(_, value)| Some(u64::from_ne_bytes(*value.first_chunk()?)))
        .map(features_of)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `enum netdev_xdp_act`.
const fn features_of(bits: u64) -> XdpFeatures {
    XdpFeatures {
        native: bits & 1 != 0,
        redirect: bits & 2 != 0,
        redirect_target: bits & 4 != 0,
        zero_copy: bits & 8 != 0,
    }
}

/// One request with one answer (without a protocol NETLINK_ROUTE, which is 0); what follows the header of the answer.
fn ask(protocol: Option<Protocol>, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    // The kernel answers at once or never.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(std::time::Duration::from_secs(2)))?;
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; 64 * 1024];
    let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    buffer.truncate(length);
    answer(&buffer)
}

fn answer(message: &[u8]) -> io::Result<Vec<u8>> {
    let too_short = || io::Error::from(io::ErrorKind::InvalidData);
    let (&length, rest) = message.split_first_chunk().ok_or_else(too_short)?;
    let (&kind, _) = rest.split_first_chunk().ok_or_else(too_short)?;
    let end = (u32::from_ne_bytes(length) as usize).min(message.len());
    let body = message.get(HEADER..end).ok_or_else(too_short)?;
    if u16::from_ne_bytes(kind) == NLMSG_ERROR {
        let code = body.first_chunk().map_or(-libc::EIO, |code| i32::from_ne_bytes(*code));
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(body.to_vec())
}

/// Netlink attributes; ends at the first that makes no sense.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&length, rest) = self.0.split_first_chunk()?;
        let (&kind, _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(length));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits say "nested" and "network byte order".
        Some((u16::from_ne_bytes(kind) & 0x3fff, value))
    }
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_GETLINK: u16 = 18;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_program_on_a_link_is_found_in_its_attributes() {
        let mut nested = Vec::new();
        push_attribute(&mut nested, IFLA_XDP_ATTACHED, &[2]);
        push_attribute(&mut nested, 4, &7u32.to_ne_bytes());
        let mut attributes = Vec::new();
        push_attribute(&mut attributes, 3, b"eth0\0");
        push_attribute(&mut attributes, IFLA_XDP | 0x8000, &nested);
        assert_eq!(parse_attached(&attributes), Attached::Generic);
        assert_eq!(parse_attached(&attributes[..8]), Attached::None);
    }

    #[test]
    fn an_error_of_the_kernel_is_that_error() {
        let mut message = vec![0; 20];
        message[..4].copy_from_slice(&20u32.to_ne_bytes());
        message[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        message[16..].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        assert_eq!(answer(&message).expect_err("an error").raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn loopback_has_no_program_and_the_kernel_says_what_it_can() {
        assert_eq!(attached(1).expect("the loopback interface"), Attached::None);
        match xdp_features(1) {
            Ok(features) => assert!(!features.zero_copy),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}"),
        }
        assert!(attached(u32::MAX / 2).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(message: Vec<u8>) {
            if let Ok(body) = answer(&message) {
                let _ = parse_attached(&body);
            }
            prop_assert!(Attributes(&message).count() <= message.len() / 4);
        }
    }
}
