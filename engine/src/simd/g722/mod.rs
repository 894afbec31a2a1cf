//! The family of G.722 kernels.

pub(crate) mod tables;

/// ITU-T G.722 on slices.
#[derive(Debug)]
pub struct G722 {
    /// The transmit filter (figure 4): splits audio into the two bands. Takes 22 samples of the past and then
    /// two new ones for each value that both `lower` and `higher` have room for; with a shorter `audio` it does
    /// as many as there are. Both bands are within 15 bits.
    pub split: fn(audio: &[i16], lower: &mut [i16], higher: &mut [i16]),
    /// The receive filter (figure 5): joins what are the sums and the differences of the bands, one after the
    /// other. Takes 22 values of the past and then two new ones for every two samples of `audio`; with a
    /// shorter `bands` it does as many as there are.
    pub join: fn(bands: &[i16], audio: &mut [i16]),
}
