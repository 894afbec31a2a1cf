//! Compiles the shim around the peers for this very CPU, so that what the peers inline is at its best.

fn main() {
    println!("cargo::rerun-if-changed=peers.c");
    // By gcc, as Debian's libraries are; tools/cc is for ours.
    cc::Build::new()
        .compiler("gcc")
        .file("peers.c")
        .opt_level(3)
        .flag("-march=native")
        .warnings(true)
        .compile("peers");
    // libopus is loaded at run time: the engine may hold another one under the same names.
    for library in ["spandsp", "speexdsp", "soxr", "samplerate", "srtp2", "m"] {
        println!("cargo::rustc-link-lib={library}");
    }
}
