use proptest::prelude::*;
use proptest::sample::select;

use super::load::trimmed;
use super::*;
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};

const REGISTERS: [Register; 11] = [R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10];
const SIZES: [Size; 4] = [Size::Byte, Size::Half, Size::Word, Size::Double];
const ALU: [Alu; 12] = [
    Alu::Add,
    Alu::Subtract,
    Alu::Multiply,
    Alu::Divide,
    Alu::Or,
    Alu::And,
    Alu::ShiftLeft,
    Alu::ShiftRight,
    Alu::Modulo,
    Alu::ExclusiveOr,
    Alu::Move,
    Alu::ShiftRightSigned,
];
const CONDITIONS: [Condition; 11] = [
    Condition::Equal,
    Condition::Greater,
    Condition::GreaterOrEqual,
    Condition::AnyBit,
    Condition::NotEqual,
    Condition::SignedGreater,
    Condition::SignedGreaterOrEqual,
    Condition::Less,
    Condition::LessOrEqual,
    Condition::SignedLess,
    Condition::SignedLessOrEqual,
];
const ATOMICS: [Atomic; 10] = [
    Atomic::Add,
    Atomic::Or,
    Atomic::And,
    Atomic::ExclusiveOr,
    Atomic::FetchAdd,
    Atomic::FetchOr,
    Atomic::FetchAnd,
    Atomic::FetchExclusiveOr,
    Atomic::Exchange,
    Atomic::CompareExchange,
];
const HELPERS: [Helper; 16] = [
    Helper::MapLookup,
    Helper::MapUpdate,
    Helper::MapDelete,
    Helper::Time,
    Helper::Random,
    Helper::Cpu,
    Helper::Redirect,
    Helper::ChecksumDifference,
    Helper::AdjustHead,
    Helper::RedirectMap,
    Helper::AdjustMeta,
    Helper::AdjustTail,
    Helper::SocketRelease,
    Helper::Jiffies,
    Helper::SocketAssign,
    Helper::Time,
];

/// A slot as RFC 9669 section 3 lays it out.
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    class: u8,
    /// Operation and source of arithmetic and jumps; mode and size of loads and stores: the upper five bits.
    rest: u8,
    target: u8,
    source: u8,
    offset: i16,
    number: i32,
}

fn fields(slot: [u8; 8]) -> Fields {
    let word = u64::from_le_bytes(slot);
    Fields {
        class: (word & 7) as u8,
        rest: (word & 0xf8) as u8,
        target: (word >> 8 & 15) as u8,
        source: (word >> 12 & 15) as u8,
        offset: (word >> 16) as u16 as i16,
        number: (word >> 32) as u32 as i32,
    }
}

fn find<T: Copy>(all: &[T], wanted: u8, code: impl Fn(T) -> u8) -> T {
    *all.iter().find(|one| code(**one) == wanted).expect("a code of the table")
}

/// Reads the encoding back: the bit layout of the standard, written down a second time.
fn decode(first: [u8; 8], second: Option<[u8; 8]>) -> Instruction {
    let it = fields(first);
    let target = || find(&REGISTERS, it.target, |register| register as u8);
    let source = || find(&REGISTERS, it.source, |register| register as u8);
    let operand = || if it.rest & 0x08 == 0 { Operand::Number(it.number) } else { source().into() };
    let size = || find(&SIZES, it.rest & 0x18, |size| size as u8);
    let mode = it.rest & 0xe0;
    let operation = it.rest & 0xf0;
    match it.class {
        0 => {
            let high = fields(second.expect("two slots")).number;
            assert_eq!((it.rest, it.offset), (0x18, 0));
            match it.source {
                0 => Instruction::LoadNumber {
                    target: target(),
                    number: u64::from(high as u32) << 32 | u64::from(it.number as u32),
                },
                1 => Instruction::LoadMap { target: target(), descriptor: it.number },
                _ => {
                    Instruction::LoadMapValue { target: target(), descriptor: it.number, offset: high as u32 }
                }
            }
        }
        1 if mode == 0x60 => {
            Instruction::Load { size: size(), target: target(), base: source(), offset: it.offset }
        }
        2 if mode == 0x60 => {
            Instruction::Store { size: size(), base: target(), offset: it.offset, operand: it.number.into() }
        }
        3 if mode == 0x60 => {
            Instruction::Store { size: size(), base: target(), offset: it.offset, operand: source().into() }
        }
        3 if mode == 0xc0 => Instruction::Atomic {
            width: if size() == Size::Double { Width::Bits64 } else { Width::Bits32 },
            operation: find(&ATOMICS, it.number as u8, |atomic| atomic as u8),
            base: target(),
            offset: it.offset,
            source: source(),
        },
        4 if operation == 0xd0 => Instruction::Order {
            order: if it.rest & 8 == 0 { Order::Little } else { Order::Big },
            bits: it.number as u8,
            target: target(),
        },
        4 | 7 => {
            let width = if it.class == 7 { Width::Bits64 } else { Width::Bits32 };
            if operation == 0x80 {
                return Instruction::Negate { width, target: target() };
            }
            let operation = find(&ALU, operation, |alu| alu as u8);
            Instruction::Alu { width, operation, target: target(), operand: operand() }
        }
        5 if operation == 0x80 => {
            Instruction::Call { helper: find(&HELPERS, it.number as u8, |helper| helper as u8) }
        }
        5 if operation == 0x90 => Instruction::Exit,
        5 if operation == 0x00 => Instruction::Jump { label: Label(it.offset as usize) },
        5 | 6 => Instruction::Branch {
            width: if it.class == 5 { Width::Bits64 } else { Width::Bits32 },
            condition: find(&CONDITIONS, operation, |condition| condition as u8),
            left: target(),
            right: operand(),
            label: Label(it.offset as usize),
        },
        _ => panic!("{it:?}"),
    }
}

fn register() -> impl Strategy<Value = Register> {
    select(&REGISTERS[..])
}

fn operand() -> impl Strategy<Value = Operand> {
    prop_oneof![register().prop_map(Operand::from), any::<i32>().prop_map(Operand::from)]
}

fn width() -> impl Strategy<Value = Width> {
    select(&[Width::Bits32, Width::Bits64][..])
}

/// Any instruction; labels are below 64.
fn instruction() -> impl Strategy<Value = Instruction> {
    let label = || (0_usize..64).prop_map(Label);
    prop_oneof![
        (width(), select(&ALU[..]), register(), operand()).prop_map(|(width, operation, target, operand)| {
            Instruction::Alu { width, operation, target, operand }
        }),
        (width(), register()).prop_map(|(width, target)| Instruction::Negate { width, target }),
        (select(&[Order::Little, Order::Big][..]), select(&[16, 32, 64][..]), register())
            .prop_map(|(order, bits, target)| Instruction::Order { order, bits, target }),
        (select(&SIZES[..]), register(), register(), any::<i16>())
            .prop_map(|(size, target, base, offset)| Instruction::Load { size, target, base, offset }),
        (select(&SIZES[..]), register(), any::<i16>(), operand())
            .prop_map(|(size, base, offset, operand)| Instruction::Store { size, base, offset, operand }),
        (width(), select(&ATOMICS[..]), register(), any::<i16>(), register()).prop_map(
            |(width, operation, base, offset, source)| Instruction::Atomic {
                width,
                operation,
                base,
                offset,
                source
            }
        ),
        (register(), any::<u64>()).prop_map(|(target, number)| Instruction::LoadNumber { target, number }),
        (register(), any::<i32>())
            .prop_map(|(target, descriptor)| Instruction::LoadMap { target, descriptor }),
        (register(), any::<i32>(), any::<u32>()).prop_map(|(target, descriptor, offset)| {
            Instruction::LoadMapValue { target, descriptor, offset }
        }),
        label().prop_map(|label| Instruction::Jump { label }),
        (width(), select(&CONDITIONS[..]), register(), operand(), label()).prop_map(
            |(width, condition, left, right, label)| Instruction::Branch {
                width,
                condition,
                left,
                right,
                label
            }
        ),
        select(&HELPERS[..]).prop_map(|helper| Instruction::Call { helper }),
        Just(Instruction::Exit),
    ]
}

proptest! {
    #[test]
    fn the_encoding_is_that_of_the_standard(instruction in instruction()) {
        let distance = instruction.label().map_or(0, |label| label.0 as i16);
        let (first, second) = instruction.encode(distance);
        prop_assert_eq!(second.is_some(), instruction.slots() == 2);
        prop_assert_eq!(decode(first, second), instruction);
    }

    #[test]
    fn every_jump_lands_where_its_label_is_bound(
        instructions in prop::collection::vec(instruction(), 1..200),
        places in prop::collection::vec(0_usize..200, 64),
    ) {
        let mut code = Assembler::new();
        let labels: Vec<Label> = (0..64).map(|_| code.label()).collect();
        for (number, instruction) in instructions.iter().enumerate() {
            for (label, place) in labels.iter().zip(&places) {
                if place % instructions.len() == number {
                    code.bind(*label);
                }
            }
            code.push(*instruction);
        }
        let slots = code.build().expect("all labels are bound once").slots().to_vec();
        let mut starts = Vec::new();
        let mut at = 0;
        for instruction in &instructions {
            starts.push(at);
            at += instruction.slots();
        }
        prop_assert_eq!(slots.len(), at);
        for (instruction, start) in instructions.iter().zip(&starts) {
            if let Some(label) = instruction.label() {
                let landed = *start as i64 + 1 + i64::from(fields(slots[*start]).offset);
                prop_assert_eq!(landed, starts[places[label.0] % instructions.len()] as i64);
            }
        }
    }

    #[test]
    fn wild_labels_are_errors_and_never_a_panic(
        instructions in prop::collection::vec(instruction(), 0..50),
        bound in prop::collection::vec((0_usize..80, 0_usize..60), 0..40),
    ) {
        let mut code = Assembler::new();
        for _ in 0..50 {
            code.label();
        }
        for (number, instruction) in instructions.iter().enumerate() {
            for (label, _) in bound.iter().filter(|(_, place)| *place == number) {
                code.bind(Label(*label));
            }
            code.push(*instruction);
        }
        let unbound = instructions.iter().filter_map(Instruction::label).any(|label| {
            bound.iter().filter(|(name, place)| *name == label.0 && *place < instructions.len()).count() != 1
                || label.0 >= 50
        });
        let result = code.build();
        prop_assert!(result.is_err() || !unbound && !instructions.is_empty());
    }
}

#[test]
fn well_known_instructions_have_their_bytes() {
    let mut code = Assembler::new();
    let end = code.label();
    code.mov(R6, R1).load(Size::Word, R2, R6, 4).add(R2, -14);
    code.branch(Condition::Greater, R2, R3, end).store(Size::Word, R10, -4, 0);
    code.big_endian(R2, 16).load_number(R1, 0x1122_3344_5566_7788).call(Helper::MapLookup);
    code.atomic(Width::Bits64, Atomic::Add, R0, 8, R1);
    code.bind(end).exit();
    let expected: [u64; 11] = [
        0x0000_0000_0000_16bf,
        0x0000_0000_0004_6261,
        0xffff_fff2_0000_0207,
        0x0000_0000_0006_322d,
        0x0000_0000_fffc_0a62,
        0x0000_0010_0000_02dc,
        0x5566_7788_0000_0118,
        0x1122_3344_0000_0000,
        0x0000_0001_0000_0085,
        0x0000_0000_0008_10db,
        0x0000_0000_0000_0095,
    ];
    let slots: Vec<u64> =
        code.build().expect("a program").slots().iter().map(|slot| u64::from_le_bytes(*slot)).collect();
    assert_eq!(slots, expected);
}

#[test]
fn what_is_wrong_with_a_label_is_said() {
    let error = |code: &Assembler<'_>| code.build().expect_err("not a program");
    assert_eq!(error(&Assembler::new()), BuildError::Empty);

    let mut code = Assembler::new();
    let label = code.label();
    code.exit().jump(label);
    assert_eq!(error(&code), BuildError::Unbound { instruction: 1 });
    code.bind(label);
    assert_eq!(error(&code), BuildError::Misplaced { instruction: 2 });

    let mut code = Assembler::new();
    let label = code.label();
    code.bind(label).exit().bind(label).exit();
    assert_eq!(error(&code), BuildError::Misplaced { instruction: 1 });

    let mut code = Assembler::new();
    let label = code.label();
    code.jump(label);
    for _ in 0..=i16::MAX {
        code.mov(R0, 0);
    }
    code.bind(label).exit();
    assert_eq!(error(&code), BuildError::TooFar { instruction: 0 });
}

#[test]
fn of_a_verifier_log_the_end_is_kept() {
    let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
    let log = format!("{log}R0 !read_ok\nprocessed 7 insns (limit 1000000)\n\0\0garbage");
    let kept = trimmed(log.as_bytes());
    assert!(kept.starts_with("line 89\n") && kept.ends_with("line 99\nR0 !read_ok"), "{kept}");
    assert_eq!(trimmed(&[]), "");
}

#[test]
fn errors_say_what_to_do() {
    let error =
        |number| Error::Map { name: "ports".to_owned(), source: io::Error::from_raw_os_error(number) };
    assert!(error(libc::EPERM).to_string().contains("CAP_BPF"), "{}", error(libc::EPERM));
    assert!(error(libc::ENOMEM).to_string().contains("control group"));
    let refused = |log: &str| Error::Load {
        name: "xdp".to_owned(),
        source: io::Error::from_raw_os_error(libc::EACCES),
        log: log.to_owned(),
    };
    assert!(refused("R1 !read_ok").to_string().contains("the verifier refuses it"));
    assert!(refused("pointer arithmetic with it prohibited for !root").to_string().contains("CAP_PERFMON"));
    let source = io::Error::from_raw_os_error(libc::ERANGE);
    assert!(Error::Attach { source }.to_string().contains("mtu 1500"));
}
