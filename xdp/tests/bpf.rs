//! Maps, programs and test runs against the kernel.

use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;

use xdp::bpf::{
    Array, Assembler, Atomic, Condition, Error, Hash, Helper, Ingress, Mode, Overflow, PerCpuArray, Program,
    ProgramKind, Register::*, SharedArray, Size, SocketMap, Sockets, Verdict, Width,
};

mod netns;

/// Whether eBPF may be used here; says that the test is skipped otherwise.
fn allowed(test: &str) -> bool {
    match xdp::bpf::probe() {
        Ok(()) => true,
        Err(error) => {
            netns::skip(test, &error.to_string());
            false
        }
    }
}

#[test]
fn maps_keep_what_they_are_given() {
    if !allowed("maps_keep_what_they_are_given") {
        return;
    }
    let array = Array::<[u8; 3]>::new("array", 2).unwrap();
    array.set(1, [1, 2, 3]).unwrap();
    assert_eq!((array.value(0).unwrap(), array.value(1).unwrap()), ([0; 3], [1, 2, 3]));
    assert!(array.set(2, [0; 3]).is_err() && array.value(2).is_err());

    let hash = Hash::<[u64; 2], u32>::new("hash", 2, Overflow::Refuse).unwrap();
    hash.set([1, 2], 3).unwrap();
    hash.set([1, 3], 4).unwrap();
    assert!(hash.set([1, 4], 5).is_err(), "full");
    assert_eq!((hash.value([1, 2]).unwrap(), hash.value([9, 9]).unwrap()), (Some(3), None));
    let mut keys = hash.keys().unwrap();
    keys.sort_unstable();
    assert_eq!(keys, [[1, 2], [1, 3]]);
    assert!(hash.remove([1, 2]).unwrap() && !hash.remove([1, 2]).unwrap());

    let forgetful = Hash::<u32, u64>::new("forgetful", 64, Overflow::Forget).unwrap();
    (0..10_000).for_each(|key| forgetful.set(key, 1).unwrap());
    assert!(forgetful.keys().unwrap().len() <= 64);

    let per_cpu = PerCpuArray::<u32>::new("percpu", 1).unwrap();
    per_cpu.set_all(0, 7).unwrap();
    assert!(per_cpu.values(0).unwrap().iter().all(|value| *value == 7));
}

#[test]
fn a_program_and_this_process_share_an_array() {
    if !allowed("a_program_and_this_process_share_an_array") {
        return;
    }
    let shared = SharedArray::<16>::new("shared", 65_536).unwrap();
    assert_eq!(shared.words().len(), 65_536 * 16);
    assert!(shared.entry(65_536).is_none());
    let entry = shared.entry(40_000).unwrap();
    entry[3].store(5, Ordering::Relaxed);

    // Entry 40,000: word 4 becomes word 3 plus one, atomically, for each frame.
    let mut code = Assembler::new();
    let none = code.label();
    code.store(Size::Word, R10, -4, 40_000).mov(R2, R10).add(R2, -4);
    code.load_map(R1, &shared).call(Helper::MapLookup).branch(Condition::Equal, R0, 0, none);
    code.load(Size::Double, R1, R0, 24).add(R1, 1).atomic(Width::Bits64, Atomic::Add, R0, 32, R1);
    code.mov(R0, Verdict::Drop as i32).exit();
    code.bind(none).mov(R0, Verdict::Aborted as i32).exit();
    let program = Program::load("shared", ProgramKind::Xdp, &code.build().unwrap()).unwrap();
    for _ in 0..3 {
        let tested = program.test(&[0; 60]).unwrap();
        assert_eq!(Verdict::new(tested.verdict), Some(Verdict::Drop));
    }
    assert_eq!(entry[4].load(Ordering::Relaxed), 18);
}

#[test]
fn a_frame_comes_back_as_the_program_left_it() {
    if !allowed("a_frame_comes_back_as_the_program_left_it") {
        return;
    }
    let mut code = Assembler::new();
    let short = code.label();
    code.load(Size::Word, R2, R1, 0).load(Size::Word, R3, R1, 4).mov(R4, R2).add(R4, 16);
    code.branch(Condition::Greater, R4, R3, short);
    code.load(Size::Half, R5, R2, 12).big_endian(R5, 16).add(R5, 1).big_endian(R5, 16);
    code.store(Size::Half, R2, 12, R5);
    code.mov(R0, Verdict::Transmit as i32).exit().bind(short).mov(R0, Verdict::Pass as i32).exit();
    let program = Program::load("frames", ProgramKind::Xdp, &code.build().unwrap()).unwrap();
    let mut frame = vec![0x11; 200];
    frame[12..14].copy_from_slice(&[0x08, 0xff]);
    let tested = program.test(&frame).unwrap();
    frame[12..14].copy_from_slice(&[0x09, 0x00]);
    assert_eq!((tested.verdict, tested.frame), (Verdict::Transmit as u32, frame));
    assert_eq!(program.test(&[0; 14]).unwrap().verdict, Verdict::Pass as u32);
}

#[test]
fn a_refused_program_says_why() {
    if !allowed("a_refused_program_says_why") {
        return;
    }
    let mut code = Assembler::new();
    code.load(Size::Word, R2, R1, 0).load(Size::Byte, R0, R2, 0).exit();
    let error = Program::load("bad", ProgramKind::Xdp, &code.build().unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Load { log, .. } if log.contains("invalid access to packet")), "{error}");
    assert!(error.to_string().contains("the verifier refuses it"), "{error}");
}

#[test]
fn a_link_is_detached_when_it_is_dropped() {
    let test = "a_link_is_detached_when_it_is_dropped";
    if !allowed(test) {
        return;
    }
    let Some(cable) = netns::Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| {
        let interface = cable.near.index();
        let mut code = Assembler::new();
        code.mov(R0, Verdict::Pass as i32).exit();
        let code = code.build().unwrap();
        let program = Program::load("pass", ProgramKind::Xdp, &code).unwrap();
        for mode in [Mode::Native, Mode::Generic] {
            let link = program.attach(interface, mode).unwrap();
            let again = program.attach(interface, mode).unwrap_err();
            assert!(again.to_string().contains("another program is attached"), "{again}");
            drop(link);
            program.attach(interface, mode).unwrap().detach().unwrap();
        }
        assert!(program.attach(99_999, Mode::Native).unwrap_err().to_string().contains("no such interface"));
        // As if a frame came in by the interface.
        let tested = program.test_from(&[0; 60], Ingress { interface, queue: 0 }).unwrap();
        assert_eq!(tested.verdict, Verdict::Pass as u32);
    });
}

#[test]
fn live_frames_are_counted_by_the_receiver() {
    let test = "live_frames_are_counted_by_the_receiver";
    if !allowed(test) {
        return;
    }
    let Some(cable) = netns::Cable::or_skip(test, netns::Options::default()) else { return };
    let seen = SharedArray::<1>::new("seen", 1).unwrap();
    let mut code = Assembler::new();
    code.load_map_value(R1, &seen, 0).mov(R2, 1).atomic(Width::Bits64, Atomic::Add, R1, 0, R2);
    code.mov(R0, Verdict::Drop as i32).exit();
    let counter = Program::load("counter", ProgramKind::Xdp, &code.build().unwrap()).unwrap();
    let link = cable.far.run(|| counter.attach(cable.far.index(), Mode::Native).unwrap());
    cable.near.run(|| {
        let mut code = Assembler::new();
        code.mov(R0, Verdict::Transmit as i32).exit();
        let sender = Program::load("sender", ProgramKind::Xdp, &code.build().unwrap()).unwrap();
        // A veth takes frames only where its own end has a program, too.
        let own = sender.attach(cable.near.index(), Mode::Native).unwrap();
        sender.run_live(&[0xff; 60], Ingress { interface: cable.near.index(), queue: 0 }, 200, 200).unwrap();
        drop(own);
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    let count = || seen.words()[0].load(Ordering::Relaxed);
    while count() < 200 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(count() >= 200, "{} of 200 frames", count());
    drop(link);
}

#[test]
fn a_lookup_program_chooses_a_socket_of_a_map() {
    let test = "a_lookup_program_chooses_a_socket_of_a_map";
    if !allowed(test) {
        return;
    }
    let Some(cable) = netns::Cable::or_skip(test, netns::Options::default()) else { return };
    cable.near.run(|| {
        let sockets = SocketMap::new("sockets", 1, Sockets::Kernel).unwrap();
        assert!(!sockets.remove(0).unwrap());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        sockets.set(0, socket.as_fd()).unwrap();

        let mut code = Assembler::new();
        let none = code.label();
        code.mov(R6, R1).store(Size::Word, R10, -4, 0).mov(R2, R10).add(R2, -4);
        code.load_map(R1, &sockets).call(Helper::MapLookup).branch(Condition::Equal, R0, 0, none);
        code.mov(R7, R0).mov(R1, R6).mov(R2, R0).mov(R3, 0).call(Helper::SocketAssign);
        code.mov(R1, R7).call(Helper::SocketRelease);
        code.bind(none).mov(R0, 1).exit();
        let program = Program::load("lookup", ProgramKind::SocketLookup, &code.build().unwrap()).unwrap();

        // family AF_INET, protocol UDP.
        let mut context = [0; 64];
        context[8] = 2;
        context[12] = 17;
        assert_eq!(program.test_lookup(&context).unwrap(), (1, true));
        assert!(sockets.remove(0).unwrap());
        assert_eq!(program.test_lookup(&context).unwrap(), (1, false));
        sockets.set(0, socket.as_fd()).unwrap();
        let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let link = program.attach_to_namespace(namespace.as_fd()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"any port", "127.0.0.1:9").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 8);
        drop(link);
    });
}
