//! Whole verbs on the real libvirt, with a machine that has nothing to boot: `cargo test --test cli on_libvirt -- --ignored`.

mod autostart;
mod edits;
mod exports;
mod machine;
mod many;
mod others;
