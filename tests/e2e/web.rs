//! The template's web server on the offline base: it serves its page, and what the base lacks is said or refused by name.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::Outcome;
use crate::host;
use crate::process::wait_for;
use crate::world::World;

const W: &str = "e2e-web";

pub fn a_machine_of_the_templates_profile_serves_its_page(world: &mut World) -> Result<Outcome> {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/workspace/profiles/web.nix");
    fs::copy(template, world.workspace.join("profiles/web.nix"))?;
    // What a base image is shared in spite of, beside an option that the base lacks.
    let extra = r#"{
  services.fail2ban.enable = true;
  boot.blacklistedKernelModules = [ "pcspkr" ];
  boot.extraModprobeConfig = "options dummy numdummies=2";
  services.nginx.virtualHosts.default = {
    default = true;
    locations."/old/".return = "301 /new/";
    locations."/built/".alias = "${./site}/";
  };
}
"#;
    world
        .nixvm(&[
            "create",
            W,
            "web",
            "1024",
            "2",
            "4G",
            "nat",
            "--from-agent",
            "--tcp-port",
            "80",
            "--no-build",
        ])?
        .ok()?;
    let extra_file = world.machine_dir(W).join("extra.nix");
    let lacks = json!(["services.fail2ban.enable"]);

    write_examples(&world.workspace.join("profiles"))?;
    let profiles = world.nixvm(&["--json", "build", "web", "examples"])?.ok()?;
    let said: Value = serde_json::from_str(&profiles.stdout)?;
    for built in [&said[0], &said[1]] {
        ensure!(built["not_carried_out"] == json!([]), "an example is not carried out:\n{profiles}");
    }

    refused_by_name(world)?;

    host::write_private(&extra_file, extra)?;
    fs::create_dir(world.machine_dir(W).join("site"))?;
    fs::write(world.machine_dir(W).join("site/index.html"), "a page of the image\n")?;
    let built = world.nixvm(&["--json", "build", "--machine", W])?.ok()?;
    ensure!(
        built.stderr.contains("does not carry out what e2e-web asks for: services.fail2ban.enable"),
        "{built}"
    );
    let said: Value = serde_json::from_str(&built.stdout)?;
    ensure!(said["not_carried_out"] == lacks, "{built}");
    world.nixvm(&["create", W, "--start", "--wait"])?.ok()?;
    world.adopt(W);
    let status = world.nixvm(&["--json", "status", W])?.ok()?;
    let said: Value = serde_json::from_str(&status.stdout)?;
    ensure!(said["not_carried_out"] == lacks, "{status}");

    world.guest_root(W, "runuser -u admin -- sh -c 'echo a page of the guest >/var/www/index.html'")?.ok()?;
    let address = world.address(W)?;
    let answer = |path: &str| get(address, path);
    let page = wait_for(Duration::from_secs(30), || Ok(answer("/").filter(|said| said.contains("200 OK"))))?;
    let page = page.with_context(|| format!("no page from {address}: {:?}", answer("/")))?;
    ensure!(page.ends_with("\r\n\r\na page of the guest\n"), "port 80 says {page}");
    let built = answer("/built/index.html").unwrap_or_default();
    ensure!(built.ends_with("\r\n\r\na page of the image\n"), "/built/ says {built}");
    let moved = answer("/old/x").unwrap_or_default();
    ensure!(moved.starts_with("HTTP/1.1 301") && moved.contains("/new/"), "/old/ says {moved}");
    let modprobe = world.admin(W, &["cat", "/etc/modprobe.d/nixos.conf"])?.ok()?;
    ensure!(modprobe.stdout == "blacklist pcspkr\noptions dummy numdummies=2", "{modprobe}");
    Ok(Outcome::Passed)
}

/// Makes a profile of all modules that the documentation shows, with the files that they name: indented, from a line with
/// the module's arguments to the `}`.
fn write_examples(profiles: &Path) -> Result<()> {
    let folder = profiles.join("examples");
    fs::create_dir_all(folder.join("site"))?;
    for (name, text) in [("web.nix", "{ }\n"), ("motd", "Hello.\n"), ("site/index.html", "Hello.\n")] {
        fs::write(folder.join(name), text)?;
    }
    let mut imports = Vec::new();
    for page in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))? {
        let text = fs::read_to_string(page?.path())?;
        let mut lines = text.lines();
        while let Some(first) = lines.find(|line| line.starts_with("    {") && line.ends_with("}:")) {
            let body = lines.by_ref().take_while(|line| *line != "    }");
            let module: Vec<&str> = std::iter::once(first).chain(body).collect();
            let name = format!("{}.nix", imports.len());
            fs::write(folder.join(&name), module.join("\n") + "\n}\n")?;
            imports.push(format!("./examples/{name}"));
        }
    }
    ensure!(imports.len() >= 3, "the documentation shows only {} modules", imports.len());
    let imports = imports.join(" ");
    let profile = format!("{{ profiles, ... }}: {{ imports = [ profiles.core {imports} ]; }}\n");
    Ok(fs::write(profiles.join("examples.nix"), profile)?)
}

/// Builds machines that must not be built, and looks for the names of what is wrong with them.
fn refused_by_name(world: &World) -> Result<()> {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"{ pkgs, ... }: { systemd.services.x.serviceConfig.ExecStart = "${pkgs.nginx}/bin/apache2"; }"#,
            &["`apache2` of pkgs.nginx"],
        ),
        (
            r#"{ pkgs, ... }: {
  environment.systemPackages = [ pkgs.jq ];
  environment.etc."x.conf".text = "run = ${pkgs.jq}/bin/yq\n";
}"#,
            &["`yq` of pkgs.jq"],
        ),
        ("{ boot.consoleLogLevel = 7; }", &["adds `loglevel=7` (boot.consoleLogLevel)"]),
        (r#"{ boot.initrd.kernelModules = [ "btrfs" ]; }"#, &["the kernel modules `btrfs`", "the initrd"]),
    ];
    for (extra, words) in cases {
        host::write_private(&world.machine_dir(W).join("extra.nix"), extra)?;
        world.nixvm(&["build", "--machine", W])?.refused(1, words)?;
    }
    Ok(())
}

/// Returns the whole answer to a request for `path`; `None` where nobody listens.
fn get(address: IpAddr, path: &str) -> Option<String> {
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, 80), limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
