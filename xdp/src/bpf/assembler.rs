//! Instructions in order, with labels.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::instruction::{
    Alu, Atomic, Condition, Helper, Instruction, Label, Operand, Order, Register, Size, Slot, Width,
};

/// Takes down a program, instruction by instruction, and encodes it.
///
/// ```
/// use xdp::bpf::{Assembler, Condition, Register::*, Size};
/// // An XDP program that drops frames of less than 60 bytes.
/// let mut code = Assembler::new();
/// let drop = code.label();
/// code.load(Size::Word, R2, R1, 0).load(Size::Word, R3, R1, 4);
/// code.add(R2, 60).branch(Condition::Greater, R2, R3, drop);
/// code.mov(R0, 2).exit();
/// code.bind(drop).mov(R0, 1).exit();
/// assert_eq!(code.build().unwrap().len(), 8);
/// ```
///
/// What is wrong with labels is said by [`Assembler::build`]; what is wrong with the program by the kernel's verifier
/// when it is loaded. A program cannot outlive the maps that it names.
#[derive(Clone, Debug, Default)]
pub struct Assembler<'m> {
    instructions: Vec<Instruction>,
    /// Where each label was bound: an index of `instructions`, and how often.
    labels: Vec<(usize, u32)>,
    maps: PhantomData<BorrowedFd<'m>>,
}

/// An encoded program, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Code<'m> {
    slots: Vec<Slot>,
    maps: PhantomData<BorrowedFd<'m>>,
}

/// Why a program cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// There is no instruction.
    #[error("the program is empty")]
    Empty,
    /// A jump names a label that is bound nowhere.
    #[error("instruction {instruction} jumps to a label that is not bound")]
    Unbound {
        /// Its number, from 0.
        instruction: usize,
    },
    /// A label is bound at two places, or behind the last instruction.
    #[error("the label of instruction {instruction} is bound twice or behind the end")]
    Misplaced {
        /// The number of the instruction that it is bound to.
        instruction: usize,
    },
    /// A jump is longer than 32,767 slots.
    #[error("instruction {instruction} jumps too far")]
    TooFar {
        /// Its number, from 0.
        instruction: usize,
    },
}

/// Short forms of the arithmetic: one for 64 bits, one for 32.
macro_rules! arithmetic {
    ($($long:ident $short:ident $operation:ident $what:literal;)*) => {
        $(
            #[doc = concat!($what, ", 64 bits.")]
            pub fn $long(&mut self, target: Register, operand: impl Into<Operand>) -> &mut Self {
                self.alu(Width::Bits64, Alu::$operation, target, operand)
            }

            #[doc = concat!($what, ", 32 bits.")]
            pub fn $short(&mut self, target: Register, operand: impl Into<Operand>) -> &mut Self {
                self.alu(Width::Bits32, Alu::$operation, target, operand)
            }
        )*
    };
}

impl<'m> Assembler<'m> {
    /// No instruction yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new label, to be jumped to and to be bound once, in any order.
    pub fn label(&mut self) -> Label {
        self.labels.push((0, 0));
        Label(self.labels.len() - 1)
    }

    /// The label means the next instruction.
    pub fn bind(&mut self, label: Label) -> &mut Self {
        let next = self.instructions.len();
        if let Some((place, times)) = self.labels.get_mut(label.0) {
            *place = next;
            *times += 1;
        }
        self
    }

    /// Adds an instruction.
    pub fn push(&mut self, instruction: Instruction) -> &mut Self {
        self.instructions.push(instruction);
        self
    }

    arithmetic! {
        mov mov32 Move "Copies";
        add add32 Add "Adds";
        sub sub32 Subtract "Subtracts";
        mul mul32 Multiply "Multiplies";
        div div32 Divide "Divides";
        rem rem32 Modulo "Divides and keeps the remainder";
        or or32 Or "Sets bits";
        and and32 And "Keeps bits";
        xor xor32 ExclusiveOr "Turns bits";
        shl shl32 ShiftLeft "Shifts to the left";
        shr shr32 ShiftRight "Shifts to the right";
    }

    /// `target = target operation operand`.
    pub fn alu(
        &mut self,
        width: Width,
        operation: Alu,
        target: Register,
        operand: impl Into<Operand>,
    ) -> &mut Self {
        self.push(Instruction::Alu { width, operation, target, operand: operand.into() })
    }

    /// `target = base + offset`, as for a place on the stack.
    pub fn address(&mut self, target: Register, base: Register, offset: i16) -> &mut Self {
        self.mov(target, base).add(target, i32::from(offset))
    }

    /// The lower `bits` from the host's byte order to the network's or back.
    pub fn big_endian(&mut self, target: Register, bits: u8) -> &mut Self {
        self.push(Instruction::Order { order: Order::Big, bits, target })
    }

    /// `target = memory[base + offset]`.
    pub fn load(&mut self, size: Size, target: Register, base: Register, offset: i16) -> &mut Self {
        self.push(Instruction::Load { size, target, base, offset })
    }

    /// `memory[base + offset] = operand`.
    pub fn store(
        &mut self,
        size: Size,
        base: Register,
        offset: i16,
        operand: impl Into<Operand>,
    ) -> &mut Self {
        self.push(Instruction::Store { size, base, offset, operand: operand.into() })
    }

    /// An indivisible change of memory.
    pub fn atomic(
        &mut self,
        width: Width,
        operation: Atomic,
        base: Register,
        offset: i16,
        source: Register,
    ) -> &mut Self {
        self.push(Instruction::Atomic { width, operation, base, offset, source })
    }

    /// A number of 64 bits.
    pub fn load_number(&mut self, target: Register, number: u64) -> &mut Self {
        self.push(Instruction::LoadNumber { target, number })
    }

    /// A map, for a helper.
    pub fn load_map(&mut self, target: Register, map: &'m impl AsFd) -> &mut Self {
        self.push(Instruction::LoadMap { target, descriptor: map.as_fd().as_raw_fd() })
    }

    /// A pointer `offset` bytes into the only entry of an array map, without a lookup.
    pub fn load_map_value(&mut self, target: Register, map: &'m impl AsFd, offset: u32) -> &mut Self {
        self.push(Instruction::LoadMapValue { target, descriptor: map.as_fd().as_raw_fd(), offset })
    }

    /// Goes on at the label.
    pub fn jump(&mut self, label: Label) -> &mut Self {
        self.push(Instruction::Jump { label })
    }

    /// Goes on at the label if `left condition right`, on 64 bits.
    pub fn branch(
        &mut self,
        condition: Condition,
        left: Register,
        right: impl Into<Operand>,
        label: Label,
    ) -> &mut Self {
        self.push(Instruction::Branch { width: Width::Bits64, condition, left, right: right.into(), label })
    }

    /// Goes on at the label if `left condition right`, on 32 bits.
    pub fn branch32(
        &mut self,
        condition: Condition,
        left: Register,
        right: impl Into<Operand>,
        label: Label,
    ) -> &mut Self {
        self.push(Instruction::Branch { width: Width::Bits32, condition, left, right: right.into(), label })
    }

    /// Calls the kernel: arguments in `R1` to `R5`, which are lost, result in `R0`.
    pub fn call(&mut self, helper: Helper) -> &mut Self {
        self.push(Instruction::Call { helper })
    }

    /// Ends the program with the verdict in `R0`.
    pub fn exit(&mut self) -> &mut Self {
        self.push(Instruction::Exit)
    }

    /// Encodes the program.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Code<'m>, BuildError> {
        if self.instructions.is_empty() {
            return Err(BuildError::Empty);
        }
        for &(place, times) in &self.labels {
            if times > 1 || times == 1 && place == self.instructions.len() {
                return Err(BuildError::Misplaced { instruction: place });
            }
        }
        let mut next = 0;
        let starts: Vec<i64> = self
            .instructions
            .iter()
            .map(|instruction| {
                let start = next;
                next += instruction.slots() as i64;
                start
            })
            .collect();
        let mut slots = Vec::with_capacity(next as usize);
        for (number, instruction) in self.instructions.iter().enumerate() {
            let distance = match instruction.label() {
                None => 0,
                Some(label) => {
                    let bound = self.labels.get(label.0).filter(|(_, times)| *times == 1);
                    let place = bound.and_then(|(place, _)| starts.get(*place));
                    let place = place.ok_or(BuildError::Unbound { instruction: number })?;
                    i16::try_from(place - starts[number] - 1)
                        .map_err(|_| BuildError::TooFar { instruction: number })?
                }
            };
            let (first, second) = instruction.encode(distance);
            slots.push(first);
            slots.extend(second);
        }
        Ok(Code { slots, maps: PhantomData })
    }
}

impl<'m> Code<'m> {
    /// Takes a program that a compiler has made. `maps` says which map the two slots from a place on are to load.
    ///
    /// # Errors
    /// [`BuildError::Empty`]; [`BuildError::Unbound`] for a place that is none.
    pub fn from_slots(
        mut slots: Vec<[u8; 8]>,
        maps: impl IntoIterator<Item = (usize, BorrowedFd<'m>)>,
    ) -> Result<Self, BuildError> {
        if slots.is_empty() {
            return Err(BuildError::Empty);
        }
        for (instruction, map) in maps {
            let places = slots.get_mut(instruction..instruction + 2);
            let Some([first, second]) = places else { return Err(BuildError::Unbound { instruction }) };
            let target = Register::of_slot(*first).ok_or(BuildError::Unbound { instruction })?;
            let load = Instruction::LoadMap { target, descriptor: map.as_raw_fd() };
            let (load, rest) = load.encode(0);
            *first = load;
            *second = rest.unwrap_or_default();
        }
        Ok(Self { slots, maps: PhantomData })
    }

    /// How many slots of eight bytes it has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty program cannot be built")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The encoding, eight bytes per slot.
    #[must_use]
    pub fn slots(&self) -> &[[u8; 8]] {
        &self.slots
    }
}
