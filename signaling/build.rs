//! New files in `migrations` are embedded at the next build, too.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
