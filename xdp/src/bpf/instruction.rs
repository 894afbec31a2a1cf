//! eBPF instructions and their encoding (RFC 9669).

/// A register. `R0` is the result, `R1` to `R5` are arguments and lost in a call, `R6` to `R9` are kept,
/// `R10` is the end of the stack (512 bytes below it) and read only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Register {
    /// Result of calls and of the program.
    R0,
    /// First argument; the context when the program begins.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Fourth argument.
    R4,
    /// Fifth argument.
    R5,
    /// Kept by calls.
    R6,
    /// Kept by calls.
    R7,
    /// Kept by calls.
    R8,
    /// Kept by calls.
    R9,
    /// End of the stack.
    R10,
}

impl Register {
    /// The target of an encoded instruction.
    pub(super) fn of_slot(slot: Slot) -> Option<Self> {
        let all = [
            Self::R0,
            Self::R1,
            Self::R2,
            Self::R3,
            Self::R4,
            Self::R5,
            Self::R6,
            Self::R7,
            Self::R8,
            Self::R9,
            Self::R10,
        ];
        all.get(usize::from(slot[1] & 15)).copied()
    }
}

/// How much a load or a store moves. What is shorter than 64 bits is zero-extended by a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// 8 bits.
    Byte = 0x10,
    /// 16 bits.
    Half = 0x08,
    /// 32 bits.
    Word = 0x00,
    /// 64 bits.
    Double = 0x18,
}

/// How many bits an operation works on. A 32-bit operation clears the upper half of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The lower half.
    Bits32,
    /// The whole register.
    Bits64,
}

/// What an arithmetic instruction does; all are unsigned but `ShiftRightSigned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Alu {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    /// Division by zero gives 0.
    Divide = 0x30,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    /// Modulo zero leaves the value.
    Modulo = 0x90,
    ExclusiveOr = 0xa0,
    Move = 0xb0,
    ShiftRightSigned = 0xc0,
}

/// When a branch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Condition {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    /// Any bit in common.
    AnyBit = 0x40,
    NotEqual = 0x50,
    SignedGreater = 0x60,
    SignedGreaterOrEqual = 0x70,
    Less = 0xa0,
    LessOrEqual = 0xb0,
    SignedLess = 0xc0,
    SignedLessOrEqual = 0xd0,
}

/// What an atomic instruction does with memory. The fetching ones leave the old value in the source register
/// (`CompareExchange`: compares with `R0`, and leaves the old value there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Atomic {
    Add = 0x00,
    Or = 0x40,
    And = 0x50,
    ExclusiveOr = 0xa0,
    FetchAdd = 0x01,
    FetchOr = 0x41,
    FetchAnd = 0x51,
    FetchExclusiveOr = 0xa1,
    Exchange = 0xe1,
    CompareExchange = 0xf1,
}

/// Byte orders that [`Instruction::Order`] makes of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Order {
    Little = 0x00,
    /// Network byte order.
    Big = 0x08,
}

/// A function of the kernel that programs may call (bpf-helpers(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Helper {
    /// `R1` map, `R2` pointer to the key; `R0` pointer to the value or 0. For SOCKMAP: the socket, to be released.
    MapLookup = 1,
    /// `R1` map, `R2` key, `R3` value, `R4` flags (0: insert or replace).
    MapUpdate = 2,
    /// `R1` map, `R2` key.
    MapDelete = 3,
    /// Nanoseconds of CLOCK_MONOTONIC.
    Time = 5,
    /// A random number of 32 bits.
    Random = 7,
    /// The number of this CPU.
    Cpu = 8,
    /// `R1` interface index, `R2` flags; answers the verdict to return.
    Redirect = 23,
    /// `R1`, `R2` the old bytes and their length, `R3`, `R4` the new ones, `R5` seed; answers a sum of 32 bits.
    ChecksumDifference = 28,
    /// `R1` context, `R2` how many bytes to cut in front (negative: to add). Packet pointers are lost.
    AdjustHead = 44,
    /// `R1` map, `R2` key, `R3` the verdict if there is nothing under the key; answers the verdict to return.
    RedirectMap = 51,
    /// `R1` context, `R2` how many bytes to add in front of the data as its description.
    AdjustMeta = 54,
    /// `R1` context, `R2` how many bytes to add at the end (negative: to cut). Packet pointers are lost.
    AdjustTail = 65,
    /// `R1` socket from a lookup.
    SocketRelease = 86,
    /// Ticks of the kernel's clock.
    Jiffies = 118,
    /// `R1` context of sk_lookup, `R2` socket, `R3` flags; answers 0 or an error.
    SocketAssign = 124,
}

/// The second operand: a register or a number, which 64-bit operations sign-extend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Register(Register),
    /// A number.
    Number(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Self {
        Self::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Self {
        Self::Number(number)
    }
}

/// A place in a program, made by [`super::Assembler::label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub(super) usize);

/// One instruction. Jumps name labels; [`super::Assembler::build`] makes distances of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what the enums above say")]
pub enum Instruction {
    /// `target = target operation operand`.
    Alu { width: Width, operation: Alu, target: Register, operand: Operand },
    /// `target = -target`.
    Negate { width: Width, target: Register },
    /// The lower `bits` (16, 32, 64) between the host's byte order and `order`; the rest is cleared.
    Order { order: Order, bits: u8, target: Register },
    /// `target = memory[base + offset]`.
    Load { size: Size, target: Register, base: Register, offset: i16 },
    /// `memory[base + offset] = operand`.
    Store { size: Size, base: Register, offset: i16, operand: Operand },
    /// On 32 or 64 bits of memory, indivisibly.
    Atomic { width: Width, operation: Atomic, base: Register, offset: i16, source: Register },
    /// A number of 64 bits. Takes two slots.
    LoadNumber { target: Register, number: u64 },
    /// A map, by its file descriptor. Takes two slots.
    LoadMap { target: Register, descriptor: i32 },
    /// A place in the only entry of an array map. Takes two slots.
    LoadMapValue { target: Register, descriptor: i32, offset: u32 },
    /// Goes on at the label.
    Jump { label: Label },
    /// Goes on at the label if the condition holds.
    Branch { width: Width, condition: Condition, left: Register, right: Operand, label: Label },
    /// Calls the kernel.
    Call { helper: Helper },
    /// Returns `R0`.
    Exit,
}

/// One or two slots of eight bytes, as `struct bpf_insn` lies in memory.
pub(super) type Slot = [u8; 8];

impl Instruction {
    /// How many slots it takes.
    pub(super) const fn slots(&self) -> usize {
        match self {
            Self::LoadNumber { .. } | Self::LoadMap { .. } | Self::LoadMapValue { .. } => 2,
            _ => 1,
        }
    }

    /// The label it may jump to.
    pub(super) const fn label(&self) -> Option<Label> {
        match self {
            Self::Jump { label } | Self::Branch { label, .. } => Some(*label),
            _ => None,
        }
    }

    /// The encoding; `distance` is that of the label, in slots from the end of this instruction.
    pub(super) fn encode(&self, distance: i16) -> (Slot, Option<Slot>) {
        let one = |slot| (slot, None);
        match *self {
            Self::Alu { width, operation, target, operand } => {
                let class = alu_class(width);
                one(with_operand(class | operation as u8, target, operand, 0))
            }
            Self::Negate { width, target } => one(slot(alu_class(width) | NEGATE, target as u8, 0, 0, 0)),
            Self::Order { order, bits, target } => {
                one(slot(CLASS_ALU | END | order as u8, target as u8, 0, 0, bits.into()))
            }
            Self::Load { size, target, base, offset } => {
                one(slot(CLASS_LDX | MODE_MEMORY | size as u8, target as u8, base as u8, offset, 0))
            }
            Self::Store { size, base, offset, operand } => {
                let (class, source, number) = match operand {
                    Operand::Register(source) => (CLASS_STX, source as u8, 0),
                    Operand::Number(number) => (CLASS_ST, 0, number),
                };
                one(slot(class | MODE_MEMORY | size as u8, base as u8, source, offset, number))
            }
            Self::Atomic { width, operation, base, offset, source } => {
                let size = match width {
                    Width::Bits32 => Size::Word,
                    Width::Bits64 => Size::Double,
                };
                let code = CLASS_STX | MODE_ATOMIC | size as u8;
                one(slot(code, base as u8, source as u8, offset, i32::from(operation as u8)))
            }
            Self::LoadNumber { target, number } => two(target, 0, number as i32, (number >> 32) as i32),
            Self::LoadMap { target, descriptor } => two(target, PSEUDO_MAP, descriptor, 0),
            Self::LoadMapValue { target, descriptor, offset } => {
                two(target, PSEUDO_MAP_VALUE, descriptor, offset.cast_signed())
            }
            Self::Jump { .. } => one(slot(CLASS_JMP, 0, 0, distance, 0)),
            Self::Branch { width, condition, left, right, .. } => {
                let class = match width {
                    Width::Bits32 => CLASS_JMP32,
                    Width::Bits64 => CLASS_JMP,
                };
                one(with_operand(class | condition as u8, left, right, distance))
            }
            Self::Call { helper } => one(slot(CLASS_JMP | CALL, 0, 0, 0, i32::from(helper as u8))),
            Self::Exit => one(slot(CLASS_JMP | EXIT, 0, 0, 0, 0)),
        }
    }
}

const fn alu_class(width: Width) -> u8 {
    match width {
        Width::Bits32 => CLASS_ALU,
        Width::Bits64 => CLASS_ALU64,
    }
}

fn with_operand(code: u8, target: Register, operand: Operand, offset: i16) -> Slot {
    match operand {
        Operand::Register(source) => slot(code | SOURCE_REGISTER, target as u8, source as u8, offset, 0),
        Operand::Number(number) => slot(code, target as u8, 0, offset, number),
    }
}

fn two(target: Register, kind: u8, low: i32, high: i32) -> (Slot, Option<Slot>) {
    let code = Size::Double as u8;
    (slot(code, target as u8, kind, 0, low), Some(slot(0, 0, 0, 0, high)))
}

/// RFC 9669 section 3.1: opcode, source and target register, offset, number.
fn slot(code: u8, target: u8, source: u8, offset: i16, number: i32) -> Slot {
    let [offset_0, offset_1] = offset.to_le_bytes();
    let [number_0, number_1, number_2, number_3] = number.to_le_bytes();
    [code, source << 4 | target, offset_0, offset_1, number_0, number_1, number_2, number_3]
}

// The layout above is that of little-endian machines, and so are the programs.
const _: () = assert!(cfg!(target_endian = "little"), "eBPF programs are written for little-endian machines");

const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
const MODE_MEMORY: u8 = 0x60;
const MODE_ATOMIC: u8 = 0xc0;
const SOURCE_REGISTER: u8 = 0x08;
const NEGATE: u8 = 0x80;
const END: u8 = 0xd0;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const PSEUDO_MAP: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;
