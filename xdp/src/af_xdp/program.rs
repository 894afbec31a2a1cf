//! Temporary.
use crate::bpf::*;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
#[derive(Debug)]
pub(super) struct Attached {
    _program: Program,
    _link: Link,
    sockets: SocketMap,
}
impl Attached {
    pub(super) fn load(interface: u32, mode: crate::bpf::Mode) -> Result<Self, crate::bpf::Error> {
        use Register::*;
        let sockets = SocketMap::new("xsks", 64, Sockets::Xdp)?;
        let mut code = Assembler::new();
        let pass = code.label();
        let v6 = code.label();
        let port = code.label();
        code.load(Size::Word, R2, R1, 0).load(Size::Word, R3, R1, 4);
        code.mov(R4, R2).add(R4, 42).branch(Condition::Greater, R4, R3, pass);
        code.load(Size::Half, R5, R2, 12).branch(Condition::Equal, R5, 0xdd86, v6);
        code.branch(Condition::NotEqual, R5, 8, pass);
        code.load(Size::Byte, R5, R2, 23).branch(Condition::NotEqual, R5, 17, pass);
        code.load(Size::Half, R5, R2, 36).jump(port);
        code.bind(v6).mov(R4, R2).add(R4, 62).branch(Condition::Greater, R4, R3, pass);
        code.load(Size::Byte, R5, R2, 20).branch(Condition::NotEqual, R5, 17, pass);
        code.load(Size::Half, R5, R2, 56);
        code.bind(port).big_endian(R5, 16).branch(Condition::Less, R5, 1024, pass);
        code.load(Size::Word, R2, R1, 16).load_map(R1, &sockets).mov(R3, 2).call(Helper::RedirectMap).exit();
        code.bind(pass).mov(R0, 2).exit();
        let program = Program::load("t", ProgramKind::Xdp, &code.build()?)?;
        let link = program.attach(interface, mode)?;
        Ok(Self { _program: program, _link: link, sockets })
    }
    pub(super) fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        self.sockets.set(queue, socket)
    }
    pub(super) fn open(&self, _: u16, _: SocketAddr) -> bool {
        true
    }
    pub(super) fn is_attached(&self) -> bool {
        true
    }
}
