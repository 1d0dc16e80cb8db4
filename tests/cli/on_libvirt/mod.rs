//! Whole verbs on the real libvirt, with a machine that has nothing to boot: `cargo test --test cli on_libvirt -- --ignored`.

mod edits;
mod exports;
mod machine;
mod others;
