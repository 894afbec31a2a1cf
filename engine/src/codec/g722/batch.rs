//! Many calls coded in one pass, 32 to a block, each word of their states side by side.
//!
//! ```text
//!   put: filter --> block: a row for each instant, a column for each call --> encode --> take: a column
//! ```
//!
//! A pool has its memory from the start. On a tick the worker puts in the frames that are due, codes once and
//! takes out the results; calls without a frame do not change. A pass over a block costs the same whether one of
//! its calls has a frame or all, which is about what one call costs alone. The bits are those of the single
//! [`Encoder`](super::Encoder) and [`Decoder`](super::Decoder).

use super::MEMORY;
use crate::simd::g722::{LANES, Lane, StateLanes};
use crate::simd::kernels;

/// A place in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call(u32);

/// Encoders of many calls at 64 kbit/s.
#[derive(Debug)]
pub struct Encoders(Pool);

impl Encoders {
    /// A pool for so many calls, rounded up to a block, with frames of at most so many octets.
    #[must_use]
    pub fn new(calls: usize, frame_octets: usize) -> Self {
        Self(Pool::new(calls, frame_octets))
    }

    /// A new encoder, unless the pool is full. The fullest blocks get the calls first.
    pub fn add(&mut self) -> Option<Call> {
        self.0.add()
    }

    /// Gives up an encoder.
    pub fn remove(&mut self, call: Call) {
        self.0.remove(call);
    }

    /// Puts in the frame of a call, up to as many octets as a frame has, and gives the number of octets that it
    /// will be. A second frame before [`encode`](Self::encode) is not taken.
    pub fn put(&mut self, call: Call, pcm: &[i16]) -> usize {
        let block = &mut self.0.blocks[call.block()];
        let octets = (pcm.len() / 2).min(block.codes.len());
        if block.octets[call.lane()] != 0 {
            return 0;
        }
        let memory = &mut self.0.memories[call.index()];
        let audio = &mut self.0.scratch.interleaved[..MEMORY + 2 * octets];
        audio[..MEMORY].copy_from_slice(memory);
        audio[MEMORY..].copy_from_slice(&pcm[..2 * octets]);
        memory.copy_from_slice(&audio[2 * octets..]);
        let [lower, higher] = &mut self.0.scratch.bands;
        let (lower, higher) = (&mut lower[..octets], &mut higher[..octets]);
        (kernels().g722.split)(audio, lower, higher);
        for (row, (&lower, &higher)) in block.signals.iter_mut().zip(lower.iter().zip(&*higher)) {
            row[0].0[call.lane()] = lower;
            row[1].0[call.lane()] = higher;
        }
        block.octets[call.lane()] = octets;
        octets
    }

    /// Encodes all frames that were put in.
    pub fn encode(&mut self) {
        for block in &mut self.0.blocks {
            block.run(|block, rows, active| {
                let (signals, codes) = (&block.signals[rows.clone()], &mut block.codes[rows]);
                (kernels().g722.encode)(&mut block.state, active, signals, codes);
            });
        }
    }

    /// Takes out what the frame of a call became: as many octets as there is room for of those that
    /// [`put`](Self::put) has promised. Only true from [`encode`](Self::encode) to the next `put`.
    pub fn take(&self, call: Call, encoded: &mut [u8]) {
        for (octet, row) in encoded.iter_mut().zip(&self.0.blocks[call.block()].codes) {
            *octet = row.0[call.lane()] as u8;
        }
    }
}

/// Decoders of many calls at 64 kbit/s.
#[derive(Debug)]
pub struct Decoders(Pool);

impl Decoders {
    /// A pool for so many calls, rounded up to a block, with payloads of at most so many octets.
    #[must_use]
    pub fn new(calls: usize, frame_octets: usize) -> Self {
        Self(Pool::new(calls, frame_octets))
    }

    /// A new decoder, unless the pool is full. The fullest blocks get the calls first.
    pub fn add(&mut self) -> Option<Call> {
        self.0.add()
    }

    /// Gives up a decoder.
    pub fn remove(&mut self, call: Call) {
        self.0.remove(call);
    }

    /// Puts in a payload of a call, up to as many octets as a frame has, and gives the number of samples that it
    /// will be. A second payload before [`decode`](Self::decode) is not taken.
    pub fn put(&mut self, call: Call, payload: &[u8]) -> usize {
        let block = &mut self.0.blocks[call.block()];
        let octets = payload.len().min(block.codes.len());
        if block.octets[call.lane()] != 0 {
            return 0;
        }
        for (row, &octet) in block.codes.iter_mut().zip(payload) {
            row.0[call.lane()] = i16::from(octet);
        }
        block.octets[call.lane()] = octets;
        2 * octets
    }

    /// Decodes all payloads that were put in.
    pub fn decode(&mut self) {
        for block in &mut self.0.blocks {
            block.run(|block, rows, active| {
                let (codes, signals) = (&block.codes[rows.clone()], &mut block.signals[rows]);
                (kernels().g722.decode)(&mut block.state, active, codes, signals);
            });
        }
    }

    /// Takes out what the payload of a call became: the number of samples that [`put`](Self::put) has promised,
    /// which is the length `pcm` must have. Once for each payload, from [`decode`](Self::decode) to the next
    /// `put`: the filter goes on from it.
    pub fn take(&mut self, call: Call, pcm: &mut [i16]) {
        let block = &self.0.blocks[call.block()];
        let octets = (pcm.len() / 2).min(block.codes.len());
        let memory = &mut self.0.memories[call.index()];
        let bands = &mut self.0.scratch.interleaved[..MEMORY + 2 * octets];
        bands[..MEMORY].copy_from_slice(memory);
        for (bands, [lower, higher]) in bands[MEMORY..].as_chunks_mut::<2>().0.iter_mut().zip(&block.signals)
        {
            let (lower, higher) = (lower.0[call.lane()], higher.0[call.lane()]);
            // Two values of 15 bits: the sum has 16.
            *bands = [lower + higher, lower - higher];
        }
        memory.copy_from_slice(&bands[2 * octets..]);
        (kernels().g722.join)(bands, &mut pcm[..2 * octets]);
    }
}

/// What is the same of both directions: places, states, and room to filter in.
#[derive(Debug)]
struct Pool {
    places: Places,
    memories: Vec<[i16; MEMORY]>,
    blocks: Vec<Block>,
    scratch: Scratch,
}

impl Pool {
    fn new(calls: usize, frame_octets: usize) -> Self {
        let blocks = calls.div_ceil(LANES);
        Self {
            places: Places::new(blocks),
            memories: vec![[0; MEMORY]; blocks * LANES],
            blocks: (0..blocks).map(|_| Block::new(frame_octets)).collect(),
            scratch: Scratch::new(frame_octets),
        }
    }

    fn add(&mut self) -> Option<Call> {
        let call = self.places.take()?;
        self.memories[call.index()] = [0; MEMORY];
        self.blocks[call.block()].reset(call.lane());
        Some(call)
    }

    fn remove(&mut self, call: Call) {
        self.places.give_back(call);
        self.blocks[call.block()].octets[call.lane()] = 0;
    }
}

impl Call {
    const fn index(self) -> usize {
        self.0 as usize
    }

    const fn block(self) -> usize {
        self.index() / LANES
    }

    const fn lane(self) -> usize {
        self.index() % LANES
    }
}

/// The free places, one bit each.
#[derive(Debug)]
struct Places(Vec<u32>);

impl Places {
    fn new(blocks: usize) -> Self {
        Self(vec![u32::MAX; blocks])
    }

    fn take(&mut self) -> Option<Call> {
        let (block, free) = self.0.iter_mut().enumerate().find(|(_, free)| **free != 0)?;
        let lane = free.trailing_zeros();
        *free &= *free - 1;
        Some(Call(block as u32 * LANES as u32 + lane))
    }

    fn give_back(&mut self, call: Call) {
        self.0[call.block()] |= 1 << call.lane();
    }
}

/// 32 calls.
#[derive(Debug)]
struct Block {
    state: StateLanes,
    /// The lower and the higher band of each instant.
    signals: Vec<[Lane; 2]>,
    codes: Vec<Lane>,
    /// How many octets each call has to code; 0 if it has no frame.
    octets: [usize; LANES],
}

impl Block {
    fn new(frame_octets: usize) -> Self {
        Self {
            state: StateLanes::new(),
            signals: vec![[Lane::ZERO; 2]; frame_octets],
            codes: vec![Lane::ZERO; frame_octets],
            octets: [0; LANES],
        }
    }

    fn reset(&mut self, lane: usize) {
        self.state.reset(lane);
        self.octets[lane] = 0;
    }

    /// Calls `code` for ranges of rows, each with the calls whose frames reach over it: one range if all frames
    /// have one length.
    fn run(&mut self, mut code: impl FnMut(&mut Self, std::ops::Range<usize>, &Lane)) {
        let mut from = 0;
        while let Some(to) = self.octets.iter().copied().filter(|&octets| octets > from).min() {
            let active = Lane(self.octets.map(|octets| if octets > from { -1 } else { 0 }));
            code(self, from..to, &active);
            from = to;
        }
        self.octets = [0; LANES];
    }
}

/// One frame between its filter and its block.
#[derive(Debug)]
struct Scratch {
    interleaved: Vec<i16>,
    bands: [Vec<i16>; 2],
}

impl Scratch {
    fn new(frame_octets: usize) -> Self {
        Self {
            interleaved: vec![0; MEMORY + 2 * frame_octets],
            bands: [vec![0; frame_octets], vec![0; frame_octets]],
        }
    }
}
