//! The migrations are embedded by a macro that cargo cannot see through: build anew when one is added.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
