//! What NixOS would do and an immutable guest cannot is refused while it is built, with the way to have it.
//!
//! `tests/nixos` holds many more modules, and evaluates them without the program.

use anyhow::{Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::world::World;

const MACHINE: &str = "e2e-x";

/// Modules that would be lost in silence, and words of what is said instead.
const LOST: [(&str, &[&str]); 3] = [
    (
        r#"{ systemd.tmpfiles.rules = [ "d /srv/app 0755 root root -" ]; }"#,
        &["`d /srv/app 0755 root root -`", r#"nixvm.persist = [ "/srv" ];"#],
    ),
    ("{ lib, ... }: { nix.enable = lib.mkForce true; }", &["nix.enable is true", "nixvm upgrade"]),
    (
        "{ lib, ... }: { users.mutableUsers = lib.mkForce true; }",
        &["users.mutableUsers is true", "nixvm passwd"],
    ),
];

pub fn promise_14_what_a_guest_cannot_carry_out_is_refused_by_name(world: &mut World) -> Result<Outcome> {
    world.nixvm(&["create", MACHINE, "core", "--network", "user", "--from-agent", "--no-build"])?.ok()?;
    let build = ["build", "--machine", MACHINE];
    let extra = world.machine_dir(MACHINE).join("extra.nix");
    for (module, words) in LOST {
        host::write_private(&extra, module)?;
        world.nixvm(&build)?.refused(1, words)?;
        world.nixvm(&["create", MACHINE])?.refused(1, words)?;
        ensure!(host::definition(MACHINE)?.is_none(), "a machine was defined that was refused: {module}");
    }
    // What the message says is what helps.
    let kept =
        r#"{ nixvm.persist = [ "/srv" ]; systemd.tmpfiles.rules = [ "d /srv/app 0755 root root -" ]; }"#;
    host::write_private(&extra, kept)?;
    world.nixvm(&build)?.ok()?;
    Ok(Outcome::Passed)
}
