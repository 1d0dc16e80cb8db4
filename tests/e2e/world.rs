//! A world of its own for tests that run one after another: a workspace, a pool, an ssh agent, machines; and its end.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::host;
use crate::leftovers::{self, PREFIX};
use crate::process::{self, Output, root, run, wait_for};

/// The two machines that the tests share.
pub const A: &str = "e2e-a";
pub const B: &str = "e2e-b";

/// A TCP port that is opened for machine A, and one that is not.
pub const OPEN_PORT: u16 = 8080;
pub const CLOSED_PORT: u16 = 8081;

/// Root's password on machine A.
pub const ROOT_PASSWORD: &str = "tr0ub4dor & 3";

/// Legal, and a trap for every language it passes through: shell, Nix, Jinja, XML.
pub const ODD: &str = r#"it's "q" \ \n ${HOME} $HOME '' ''${x} & < > {{ x }} {% y %} # é %s `id`"#;

/// The first build makes the base image and a boot without KVM takes a minute; a slow host may need some of each.
const LIMIT: Duration = Duration::from_secs(1800);

/// A machine that answered ssh.
#[derive(Debug, Clone)]
pub struct Machine {
    pub address: IpAddr,
}

pub struct World {
    pub dir: PathBuf,
    pub workspace: PathBuf,
    /// The program under test, where every user can run it.
    pub nixvm: PathBuf,
    pub pool: String,
    /// Where it has its volumes.
    pub pool_folder: PathBuf,
    /// Where the workspace and the pool are on a file system of their own, where that is mounted.
    pub disk: Option<PathBuf>,
    pub nixpkgs: String,
    agent: Child,
    made: BTreeMap<&'static str, Result<(), String>>,
    /// Undone at the end, last first.
    undo: Vec<Box<dyn FnOnce() -> Result<()>>>,
}

/// What the worlds of one run have in common.
pub struct Run {
    pub nixpkgs: String,
    worlds: AtomicU8,
    _only_one: fs::File,
}

impl Run {
    pub fn new() -> Result<Self> {
        let only_one = leftovers::lock()?;
        leftovers::sweep()?;
        Ok(Run { nixpkgs: pinned(&nixpkgs()?)?, worlds: AtomicU8::new(b'a'), _only_one: only_one })
    }

    /// Returns a name for a world that is no beginning of another's.
    fn name(&self) -> String {
        let letter = char::from(self.worlds.fetch_add(1, Ordering::Relaxed));
        format!("{PREFIX}{}-{letter}", std::process::id())
    }
}

impl World {
    pub fn new(run: &Run) -> Result<Self> {
        Self::make(run, None)
    }

    /// Returns a world whose workspace and pool have a file system of their own, which can be filled up.
    pub fn on_a_disk_of_its_own(run: &Run) -> Result<Self> {
        Self::make(run, Some("disk"))
    }

    fn make(run: &Run, disk: Option<&str>) -> Result<Self> {
        let name = run.name();
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // Open to all: a secret has to be kept by its own mode, not by that of a folder of the tests.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let disk = disk.map(|disk| dir.join(disk));
        let pool_folder = match &disk {
            Some(disk) => mount_with_pool(disk, &name)?,
            None => Path::new("/var/lib/libvirt/images").join(&name),
        };
        let workspace = disk.as_ref().unwrap_or(&dir).join("workspace");
        copy_workspace(&workspace)?;
        let nixvm = dir.join("nixvm");
        fs::copy(env!("CARGO_BIN_EXE_nixvm"), &nixvm)?;
        let agent = agent(&dir)?;
        let world = World {
            pool: name,
            pool_folder,
            disk,
            workspace,
            nixvm,
            nixpkgs: run.nixpkgs.clone(),
            agent,
            made: BTreeMap::new(),
            undo: Vec::new(),
            dir,
        };
        world.add_key()?;
        Ok(world)
    }

    // --- running nixvm

    /// Returns nixvm's command line in this world.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.nixvm);
        command.arg("-C").arg(&self.workspace).args(["--color", "never"]).env("NIXVM_POOL", &self.pool);
        command.args(arguments).current_dir(&self.dir).env_remove("NIXVM_CONNECT");
        command.env("NIXVM_NIXPKGS", &self.nixpkgs).env("SSH_AUTH_SOCK", self.agent_socket());
        command
    }

    /// Returns a command of this world with its variables before it, for env(1): sudo hands no environment on.
    pub fn words(command: &Command) -> Vec<String> {
        let kept = |name: &str| name == "HOME" || name == "PATH" || name.starts_with("NIX");
        let given = |name: &str| command.get_envs().any(|(key, _)| key == name);
        let mut words: Vec<String> = std::env::vars()
            .filter(|(name, _)| kept(name) && !given(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        words.extend(command.get_envs().filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
        }));
        let argv = std::iter::once(command.get_program()).chain(command.get_args());
        words.extend(argv.map(|word| word.to_string_lossy().into_owned()));
        words
    }

    /// Runs nixvm.
    pub fn nixvm(&self, arguments: &[&str]) -> Result<Output> {
        run(&mut self.command(arguments), b"", LIMIT)
    }

    /// Runs a command in a guest as admin.
    pub fn admin(&self, machine: &str, command: &[&str]) -> Result<Output> {
        self.nixvm(&[&["ssh", machine, "--"], command].concat())
    }

    /// Runs a script in a guest as root; it travels on standard input, so no quoting is in its way.
    pub fn guest_root(&self, machine: &str, script: &str) -> Result<Output> {
        let mut ssh = self.command(&["ssh", machine, "--", "sudo", "bash", "-s"]);
        run(&mut ssh, script.as_bytes(), Duration::from_secs(600))
    }

    // --- machines

    /// Returns machine A, running; it is made by the first test that needs it.
    pub fn machine_a(&mut self) -> Result<Machine> {
        self.machine(A, |world| {
            let folder = world.machine_dir(A);
            host::write_private(&folder.join("root_password_hash"), &format!("{}\n", hash(ROOT_PASSWORD)?))?;
            host::write_private(
                &folder.join("user_authorized_keys"),
                &format!("# {ODD}\n{}", world.public_key()?),
            )?;
            host::write_private(
                &folder.join("resolv.conf"),
                &format!("# {ODD}\nnameserver 192.0.2.53\noptions timeout:1\n"),
            )?;
            let port = OPEN_PORT.to_string();
            let asked = [A, "core", "1024", "2", "4G", "nat", "--from-agent", "--tcp-port", &port];
            world.nixvm(&[&["create"], &asked[..], &["--start", "--wait"]].concat())?.ok()?;
            Ok(())
        })
    }

    /// Returns machine B, running; it shares A's profile, whose image it must not be the first to need.
    pub fn machine_b(&mut self) -> Result<Machine> {
        self.machine_a()?;
        self.machine(B, |world| {
            world
                .nixvm(&["create", B, "core", "1024", "2", "4G", "nat", "--from-agent", "--start", "--wait"])?
                .ok()?;
            Ok(())
        })
    }

    /// Makes a machine known that a test made itself.
    pub fn adopt(&mut self, name: &'static str) {
        self.made.insert(name, Ok(()));
    }

    /// Says that a machine is no more.
    pub fn forget(&mut self, name: &str) {
        self.made.remove(name);
    }

    fn machine(&mut self, name: &'static str, make: impl FnOnce(&mut Self) -> Result<()>) -> Result<Machine> {
        let made = match self.made.get(name) {
            Some(Err(_)) => bail!("{name} could not be made; see the first failure"),
            Some(Ok(())) => Ok(()),
            None => {
                let made = make(self);
                self.made.insert(name, made.as_ref().map(drop).map_err(|error| format!("{error:#}")));
                made
            }
        };
        made.with_context(|| format!("{name} could not be made"))?;
        if host::state(name)? != "running" {
            self.nixvm(&["start", name, "--wait"])?.ok()?;
        }
        Ok(Machine { address: self.address(name)? })
    }

    /// Returns a machine's address as libvirt's DHCP server leased it.
    pub fn address(&self, name: &str) -> Result<IpAddr> {
        let leased = || {
            let said = host::virsh(&["domifaddr", name, "--source", "lease"])?;
            let found = said.stdout.split_whitespace().find_map(|word| word.split_once('/')?.0.parse().ok());
            Ok::<Option<IpAddr>, anyhow::Error>(found)
        };
        wait_for(Duration::from_secs(10), leased)?
            .ok_or_else(|| anyhow!("libvirt leased no address to {name}"))
    }

    pub fn machine_dir(&self, name: &str) -> PathBuf {
        self.workspace.join("machines").join(name)
    }

    /// Returns a file of a machine's folder.
    pub fn file(&self, machine: &str, name: &str) -> Result<String> {
        let path = self.machine_dir(machine).join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Returns what can be seen of the guests that run, for whoever wonders why a test failed.
    pub fn guests(&self) -> Result<String> {
        let mut seen = String::new();
        for domain in host::running_domains()?.iter().filter(|name| name.starts_with("e2e-")) {
            let addresses = host::virsh_any(&["domifaddr", domain, "--source", "agent"])?;
            // It may be in the pool of another test.
            let mut logs = self.command(&["logs", domain, "-n", "60"]);
            let log = run(logs.env_remove("NIXVM_POOL"), b"", LIMIT)?;
            seen += &format!("{domain} runs.\n{addresses}\n{log}\n");
        }
        Ok(seen)
    }

    // --- keys

    fn agent_socket(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// Returns the private key that may log in to every machine of this world.
    pub fn key(&self) -> PathBuf {
        self.dir.join("id_ed25519")
    }

    pub fn public_key(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("id_ed25519.pub"))?)
    }

    /// The ssh client looks for keys in the home of the passwd file, not of `$HOME`; an agent is the way to give it others.
    fn add_key(&self) -> Result<()> {
        let (key, socket) = (self.key(), self.agent_socket());
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", ODD, "-f"]).arg(&key);
        run(&mut keygen, b"", Duration::from_secs(10))?.ok()?;
        let begun = wait_for(Duration::from_secs(10), || Ok(socket.exists().then_some(())))?;
        begun.context("ssh-agent did not begin")?;
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket);
        run(&mut add, b"", Duration::from_secs(10))?.ok().map(drop)
    }

    // --- the end

    /// Has something undone when the run ends, however it ends, and in any case before what was made earlier is.
    pub fn at_the_end(&mut self, undo: impl FnOnce() -> Result<()> + 'static) {
        self.undo.push(Box::new(undo));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        process::clean_up(|| {
            complain(leftovers::remove_machines(&self.pool));
            while let Some(undo) = self.undo.pop() {
                complain(undo());
            }
            complain(leftovers::restore_network(&self.dir));
            complain(leftovers::unmount(&self.dir));
            complain(self.agent.kill().and_then(|()| self.agent.wait().map(drop)).map_err(Into::into));
            complain(process::root("rm", &["-rf".as_ref(), self.dir.as_os_str()]).map(drop));
        });
    }
}

/// What cannot be cleaned up must not keep the rest from being.
fn complain(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("warning: while cleaning up: {error:#}");
    }
}

fn nixpkgs() -> Result<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Ok(given) = std::env::var("NIXVM_NIXPKGS") {
        return Ok(given);
    }
    if let Ok(chosen) = fs::read_to_string(repository.join("output/base"))
        && !chosen.trim().is_empty()
    {
        return Ok(chosen.trim().to_owned());
    }
    let offline = std::env::home_dir().unwrap_or_default().join(".cache/nixvm/offline");
    ensure!(
        offline.join("flake.nix").exists(),
        "no nixpkgs to build guests from: set NIXVM_NIXPKGS, or run `offline/prepare`, which makes {}",
        offline.display()
    );
    Ok(format!("path:{}", offline.display()))
}

/// Returns a reference to this nixpkgs' copy in the store: any user can read it, and nobody changes it meanwhile.
fn pinned(nixpkgs: &str) -> Result<String> {
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command flakes", "flake", "metadata", "--json", nixpkgs]);
    let said = run(&mut nix, b"", Duration::from_secs(600))?.ok()?;
    let metadata: serde_json::Value = serde_json::from_str(&said.stdout)?;
    let path = metadata["path"].as_str().with_context(|| format!("Nix names no path of {nixpkgs}"))?;
    Ok(format!("path:{path}"))
}

/// Mounts a file system at that path, with a folder for a pool of that name, and returns the folder.
fn mount_with_pool(disk: &Path, pool: &str) -> Result<PathBuf> {
    fs::create_dir(disk)?;
    let [at, owner] = [disk.display().to_string(), format!("uid={}", rustix::process::geteuid().as_raw())];
    root("mount", &["-t", "tmpfs", "-o", &format!("mode=0755,{owner}"), "nixvm-e2e", &at])?;
    let folder = disk.join("pool");
    fs::create_dir(&folder)?;
    host::virsh(&["pool-define-as", pool, "dir", "--target", &folder.display().to_string()])?;
    host::virsh(&["pool-start", pool])?;
    Ok(folder)
}

/// Copies what a user would have: the flake and what it is made of, and no machines.
fn copy_workspace(to: &Path) -> Result<()> {
    fs::create_dir_all(to.join("machines"))?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parts = ["flake.nix", "flake.lock", "modules", "profiles", "nix"].map(|part| repository.join(part));
    let mut copy = Command::new("cp");
    copy.args(["-R", "--no-preserve=ownership", "--"]).args(parts).arg(to);
    run(&mut copy, b"", Duration::from_secs(60))?.ok().map(drop)
}

fn agent(dir: &Path) -> Result<Child> {
    let mut agent = Command::new("ssh-agent");
    agent.arg("-D").arg("-a").arg(dir.join("agent")).stdout(Stdio::null()).stderr(Stdio::null());
    agent.spawn().context("cannot start ssh-agent")
}

/// Returns a password's hash for crypt(5).
pub fn hash(password: &str) -> Result<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["passwd", "-6", "-stdin"]);
    let hashed = run(&mut openssl, format!("{password}\n").as_bytes(), Duration::from_secs(10))?.ok()?;
    Ok(hashed.text().to_owned())
}
