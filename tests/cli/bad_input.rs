//! Bad input is refused: one clear message, the right exit code, and no change.

use crate::sandbox::{KEY, Sandbox};

/// Runs a command that must be refused and change nothing, and returns its message.
fn refused(sandbox: &Sandbox, arguments: &[&str], code: i32) -> String {
    let before = sandbox.snapshot();
    let ended = sandbox.run(arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{arguments:?}: {}", ended.stderr);
    assert!(sandbox.snapshot() == before, "{arguments:?} changed a file");
    ended.stderr
}

/// The same for `create web` with one option.
fn refused_value(option: &str, value: &str) -> String {
    let sandbox = Sandbox::new();
    refused(
        &sandbox,
        &["create", "web", "--no-build", "--keys", "../home/key.pub", &format!("--{option}={value}")],
        2,
    )
}

/// The same for a machine `web` with a file that was edited by hand.
fn refused_file(name: &str, contents: impl AsRef<[u8]>) -> String {
    let sandbox = Sandbox::new().with_web();
    sandbox.write(&format!("machines/web/{name}"), contents);
    refused(&sandbox, &["build", "--machine", "web"], 1)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[test]
fn names() {
    let long = "x".repeat(64);
    for name in ["", &long, "Web", "web.prod", "../x", "a/b", "-web", "web-", "web prod", "wéb", "a\nb"] {
        for verb in [
            "create",
            "start",
            "stop",
            "status",
            "console",
            "destroy",
            "purge",
            "upgrade",
            "rollback",
            "generations",
            "diff",
        ] {
            let said = refused(&Sandbox::new(), &[verb, "--", name], 2);
            assert!(first_line(&said).starts_with("error: "), "{verb} {name:?}: {said}");
            assert!(said.contains("\nhint: "), "{verb} {name:?}: {said}");
        }
    }
    let said = refused(&Sandbox::new(), &["destroy", "--yes", ""], 2);
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn an_unknown_profile_is_met_with_what_was_meant() {
    let sandbox = Sandbox::new();
    let said = refused(&sandbox, &["create", "web", "dokcer", "--no-build", "--keys", "../home/key.pub"], 1);
    assert_eq!(
        said,
        "error: there is no profile `dokcer`\nhint: did you mean `docker`? `nixvm list-profiles` lists all\n"
    );
    let said = refused(&sandbox, &["build", "kubernetes"], 1);
    assert!(
        said.ends_with(
            "error: there is no profile `kubernetes`\nhint: the profiles are base, core, docker\n"
        ),
        "{said}"
    );
}

#[test]
fn snapshots() {
    let sandbox = Sandbox::new().with_web();
    for verb in ["snapshot", "restore-snapshot", "delete-snapshot"] {
        let said = refused(&sandbox, &[verb, "web", "a/b"], 2);
        assert!(said.starts_with("error: `a/b` cannot be a snapshot's name: it holds `/`\nhint: "), "{said}");
        let said = refused(&sandbox, &[verb, "Web", "a"], 2);
        assert!(said.starts_with("error: `Web` cannot be a machine's name"), "{said}");
    }
    for verb in ["restore-snapshot", "delete-snapshot"] {
        // No question about a machine that does not exist.
        for arguments in [&[verb, "web", "a"][..], &[verb, "web", "a", "--yes"]] {
            let said = refused(&sandbox, arguments, 1);
            assert!(said.contains("has no domain `web`\nhint: make it: `nixvm create web`"), "{said}");
        }
    }
    for arguments in [&["snapshot", "web"][..], &["snapshots", "web"]] {
        let said = refused(&sandbox, arguments, 1);
        assert!(said.contains("has no domain `web`"), "{said}");
    }
    assert!(refused(&sandbox, &["snapshot", "web", "--keep", "0"], 2).contains("--keep"));
}

#[test]
fn ports() {
    for port in ["0", "65536", "80-90", "http", "", "-1", "80,443"] {
        assert_eq!(first_line(&refused_value("tcp-port", port)), format!("error: `{port}` is not a port"));
        if !port.is_empty() {
            let said = refused_file("tcp_ports", format!("22\n# comment\n{port}\n"));
            assert!(said.contains("machines/web/tcp_ports, line 3"), "{said}");
        }
    }
}

#[test]
fn sizes_and_numbers() {
    for (option, values) in [
        ("memory", ["4Q", "-1", "0", "much", "1M"]),
        ("var-size", ["4Q", "-1", "0", "20GG", "99999999999999T"]),
        ("vcpus", ["0", "-1", "two", "1.5", "100000"]),
    ] {
        for value in values {
            let said = refused_value(option, value);
            assert!(
                first_line(&said).starts_with(&format!("error: `{value}` is not a ")),
                "{option} {value}: {said}"
            );
            assert!(said.contains("\nhint: "), "{said}");
        }
    }
}

#[test]
fn networks_and_host_names() {
    for network in ["", "bridge:", "bridge:a/b", "macvtap", "NAT", "bridge:a-name-much-too-long"] {
        assert!(first_line(&refused_value("network", network)).starts_with("error: "), "{network}");
    }
    for hostname in ["", "-x", "x-", "a_b", "a.b", "x x", &"h".repeat(64)] {
        let said = refused_value("hostname", hostname);
        assert!(said.starts_with("error: ") && said.contains("\nhint: "), "{hostname}: {said}");
    }
}

#[test]
fn keys() {
    let sandbox = Sandbox::new();
    let create = ["create", "web", "--no-build", "--keys", "keys"];
    for text in
        ["no key\n", "ssh-ed25519 AAAA\n", "ssh-rsa\n", &format!("{KEY}\nssh-ed25519 !!!\n"), "a\0b\n"]
    {
        sandbox.write("keys", text);
        let said = refused(&sandbox, &create, 1);
        assert!(first_line(&said).contains("of `keys` is not an ssh public key"), "{text:?}: {said}");
    }
    sandbox.write("keys", "# nobody\n\n");
    assert!(refused(&sandbox, &create, 1).starts_with("error: `keys` holds no ssh key\nhint: "));
    std::fs::remove_file(sandbox.path("keys")).unwrap();
    assert!(
        refused(&sandbox, &create, 1)
            .starts_with("error: cannot read ssh keys from `keys`\ncause: No such file")
    );
}

#[test]
fn a_machine_nobody_can_log_in_to_is_made_on_request_only() {
    let sandbox = Sandbox::new();
    std::fs::remove_file(sandbox.home().join("key.pub")).unwrap();
    let said = refused(&sandbox, &["create", "web", "--no-build"], 1);
    assert!(said.starts_with("error: no ssh key found in the agent or in ~/.ssh\nhint: "), "{said}");
    let made = sandbox.run(&["create", "web", "--no-build", "--no-keys"]);
    assert_eq!(made.code, 0, "{made:?}");
}

#[test]
fn a_file_broken_by_hand_is_named_with_its_line() {
    for (name, contents) in [
        ("hostname", "-web\n"),
        ("machine-id", "0000\n"),
        ("mac-address", "01:00:5e:00:00:01\n"), // multicast
        ("mac-address", "52:54:00\n"),
        ("uuid", "not-a-uuid\n"),
        ("network", "token-ring\n"),
        ("memory", "4Q\n"),
        ("udp_ports", "53\n80-90\n"),
        ("admin_authorized_keys", "not a key\n"),
        ("resolv.conf", "nameserver 1.1.1.1\n\0\n"),
        ("root_password_hash", "secret\n"),
        ("ssh_host_ed25519_key", "no key\n"),
        ("profile", "../core\n"),
    ] {
        let said = refused_file(name, contents);
        assert!(first_line(&said).contains(&format!("machines/web/{name}")), "{name}: {said}");
        assert!(!said.contains("secret"), "{name}: {said}");
    }
    let said =
        refused_file("extra.nix", "{ pkgs, ... }: {\n  environment.systemPackages = [ pkgs.vim ;\n}\n");
    assert!(said.contains("machines/web/extra.nix") && said.contains('2'), "{said}");
    assert!(first_line(&refused_file("hostname", b"\xff\n")).contains("UTF-8"));
}

#[test]
fn a_domain_that_is_not_nixvms_is_left_alone() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["start", "test"][..],
        &["stop", "test"],
        &["force-stop", "test"],
        &["destroy", "test", "--yes"],
        &["purge", "test", "--yes"],
        &["create", "test", "--keys", "../home/key.pub"],
    ] {
        let said = refused(&sandbox, arguments, 1);
        assert!(said.contains("error: the domain `test` is not nixvm's\nhint: "), "{arguments:?}: {said}");
    }
}

#[test]
fn a_host_that_lacks_something_is_told_so() {
    let sandbox = Sandbox::new();
    let said = refused(&sandbox, &["--connect", "qemu:///system?socket=/nowhere", "list"], 1);
    assert!(said.starts_with("error: ") && said.contains("hint: "), "{said}");
    let said = refused(&sandbox, &["--connect", "lab", "list"], 2);
    assert!(said.starts_with("error: `lab` is no libvirt URI\nhint: "), "{said}");

    let empty = sandbox.home();
    let said = sandbox.run_with_path(&["build", "core"], &empty);
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains("cause: cannot run `nix`") && said.stderr.contains("hint: install Nix"),
        "{}",
        said.stderr
    );
}

#[test]
fn what_cannot_be_asked_names_the_option_that_answers() {
    let sandbox = Sandbox::new().with_web();
    for arguments in [&["create"][..], &["purge", "web"]] {
        let said = refused(&sandbox, arguments, 2);
        assert!(said.contains("hint: "), "{arguments:?}: {said}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["creat", "web"][..],
        &["start"],
        &["create", "web", "core", "--profile", "core"],
        &["list", "--colour"],
    ] {
        assert!(refused(&sandbox, arguments, 2).starts_with("error: "), "{arguments:?}");
    }
}

#[test]
fn under_json_an_error_is_json_on_standard_output() {
    let ended = Sandbox::new().run(&["--json", "start", "Web"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (2, ""));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["exit_code"], 2);
    assert!(report["error"].as_str().unwrap().contains("`Web`") && !report["hints"][0].is_null(), "{report}");
}
