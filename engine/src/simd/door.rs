//! Where code for one instruction set is entered, and the only `unsafe` of the kernels.
//!
//! A kernel is written as an ordinary safe function inside one of these macros. Within it the intrinsics of
//! that instruction set are safe to call, and plain loops are compiled for it; vectors are loaded and stored
//! by value through `bytemuck`, so that no pointer is needed. A smaller function that a kernel uses is marked
//! `#[target_feature(enable = "..")]` itself, with a part of the kernel's features, and needs no macro.

/// Kernels for CPUs with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
macro_rules! avx2 {
    ($($rest:tt)*) => { crate::simd::door::door! { "avx2,fma,bmi1,bmi2,popcnt,lzcnt" $($rest)* } };
}

/// Kernels for CPUs with the AVX-512 of Ice Lake and Zen 4.
#[cfg(target_arch = "x86_64")]
macro_rules! avx512 {
    ($($rest:tt)*) => {
        crate::simd::door::door! {
            "avx2,fma,bmi1,bmi2,popcnt,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni"
            $($rest)*
        }
    };
}

/// Kernels for AArch64, all of which have NEON.
#[cfg(target_arch = "aarch64")]
macro_rules! neon {
    ($($rest:tt)*) => { crate::simd::door::door! { "neon" $($rest)* } };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! door {
    ($features:literal $(
        $(#[$attribute:meta])*
        fn $name:ident $(<const $constant:ident: $kind:ty>)? ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {
        $(
            $(#[$attribute])*
            pub(in crate::simd) fn $name $(<const $constant: $kind>)? ($($argument: $type),*) $(-> $result)? {
                #[target_feature(enable = $features)]
                fn inside $(<const $constant: $kind>)? ($($argument: $type),*) $(-> $result)? $body
                #[allow(unsafe_code, reason = "the caller has looked at the CPU")]
                // SAFETY: only the tables of `simd` reach this, and a table is given out only when the CPU
                // has all the features it was compiled for.
                unsafe {
                    inside $(::<$constant>)? ($($argument),*)
                }
            }
        )*
    };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::simd) use door;
#[cfg(target_arch = "aarch64")]
pub(in crate::simd) use neon;
#[cfg(target_arch = "x86_64")]
pub(in crate::simd) use {avx2, avx512};
