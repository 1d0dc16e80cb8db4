//! Many machines at the same time, on the real libvirt.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::sandbox::Sandbox;

use super::machine::virsh;

const COUNT: usize = 10;
const LIMIT: Duration = Duration::from_secs(3);

/// Guests without a system: their firmware finds nothing to boot, and hears no request to shut down.
struct Hung {
    sandbox: Sandbox,
    names: Vec<String>,
}

impl Hung {
    fn new() -> Self {
        let hung = Hung {
            sandbox: Sandbox::new(),
            names: (0..COUNT).map(|number| format!("foreign-hung-{number}")).collect(),
        };
        for (number, name) in hung.names.iter().enumerate() {
            let create = ["create", name, "--no-build", "--no-keys", "--quiet"];
            assert_eq!(hung.sandbox.run(&create).code, 0);
            hung.sandbox.write(&format!("machines/{name}/connection"), "qemu:///system\n");
            hung.sandbox.write("../domain.xml", hung.domain(number, name));
            virsh(&["define", hung.sandbox.path("../domain.xml").to_str().unwrap()]);
        }
        std::thread::scope(|scope| {
            hung.names.iter().for_each(|name| drop(scope.spawn(|| virsh(&["start", name]))));
        });
        hung
    }

    fn domain(&self, number: usize, name: &str) -> String {
        format!(
            "<domain type='qemu'><name>{name}</name><uuid>0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8b{number:02x}</uuid><metadata>\
             <n:machine xmlns:n='urn:nixvm:domain:1' name='{name}' workspace='{}' volumes='{name}' generation='1'>\
             <n:generation number='1' profile='core' digest='d' base='base' made='1' health='untried' nixpkgs='n' kernel='k'/>\
             </n:machine></metadata><memory unit='MiB'>16</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <devices><controller type='usb' model='none'/><video><model type='none'/></video></devices></domain>",
            self.sandbox.path("").canonicalize().unwrap().display(),
        )
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        for name in &self.names {
            for verb in ["destroy", "undefine"] {
                let _ = std::process::Command::new("virsh")
                    .args(["-q", "-c", "qemu:///system", verb, name])
                    .output();
            }
        }
    }
}

#[test]
#[ignore = "needs qemu:///system"]
fn ten_hung_guests_take_one_timeout_and_a_request_to_stop_ends_them_all() {
    let hung = Hung::new();
    let nixvm = |arguments: &[&str]| {
        let mut command = hung.sandbox.command(arguments);
        command.env_remove("NIXVM_CONNECT").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let began = Instant::now();
    let stopped = hung.sandbox.ended(&mut nixvm(&["stop", "--all", "--timeout", "3", "--json"]));
    let took = began.elapsed();
    assert_eq!(stopped.code, 1, "{stopped:?}");
    let list: Vec<Value> = serde_json::from_str(&stopped.stdout).unwrap();
    let is_on =
        |one: &&Value| one["error"].as_str().is_some_and(|error| error.ends_with("is still on after 3 s"));
    assert_eq!((list.len(), list.iter().filter(is_on).count()), (COUNT, COUNT), "{stopped:?}");
    assert!(LIMIT <= took && took < 3 * LIMIT, "{took:?}");
    assert!(stopped.stderr.ends_with("error: all 10 machines failed\n"), "{stopped:?}");

    let child = nixvm(&["stop", "--all", "--timeout", "60", "--jobs", "4", "--json"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(ended.status.code(), Some(143), "{ended:?}");
    let list: Vec<Value> = serde_json::from_slice(&ended.stdout).unwrap();
    let of = |key: &str, value: &str| list.iter().filter(|one| one[key] == value).count();
    assert_eq!(
        (list.len(), of("error", "interrupted"), of("skipped", "not-begun")),
        (COUNT, 4, 6),
        "{list:?}"
    );
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.ends_with("error: interrupted\ncause: 4 of 10 machines failed; 6 not begun\n"), "{said}");

    let off = hung.sandbox.ended(&mut nixvm(&["force-stop", "foreign-hung-*"]));
    assert!(off.code == 0 && off.stdout.lines().count() == COUNT + 1, "{off:?}");
    assert!(!virsh(&["list", "--name"]).contains("foreign-hung"));
}
