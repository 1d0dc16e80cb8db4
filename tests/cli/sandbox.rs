//! A world for one test: a home, a workspace, and nothing from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A valid key, with its comment.
pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me";

/// The result of a run of the program.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub struct Sandbox {
    root: TempDir,
}

impl Sandbox {
    /// Returns a workspace with the profiles `base`, `core` and `docker`, and no machines.
    pub fn new() -> Self {
        let sandbox = Sandbox { root: tempfile::tempdir().unwrap() };
        sandbox.write("flake.nix", "{ outputs = _: { }; }\n");
        for (name, text) in
            [("base", "A system."), ("core", "Base with ssh."), ("docker", "Core with Docker.")]
        {
            sandbox.write(&format!("profiles/{name}.nix"), format!("# {text}\n{{ }}\n"));
        }
        sandbox.write("modules/default.nix", "{ }\n");
        fs::create_dir(sandbox.path("machines")).unwrap();
        fs::create_dir(sandbox.root.path().join("home")).unwrap();
        fs::write(sandbox.home().join("key.pub"), format!("{KEY}\n")).unwrap();
        sandbox
    }

    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Returns a path in the workspace.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("workspace").join(name)
    }

    /// Writes a file of the workspace, readable by its owner only.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Returns the name and contents of every file of the workspace except `output/`, to check that nothing changed.
    pub fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = walkdir::WalkDir::new(self.path("")).sort_by_file_name().into_iter().map(Result::unwrap);
        let output = self.path("output");
        files
            .filter(|f| f.file_type().is_file() && !f.path().starts_with(&output))
            .map(|f| (f.path().to_owned(), fs::read(f.path()).unwrap()))
            .collect()
    }

    /// Returns the sandbox with a declared machine `web`.
    pub fn with_web(self) -> Self {
        let ended = self.run(&["create", "web", "--no-build", "--keys", "../home/key.pub", "--quiet"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        self
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_path(arguments, Path::new("/usr/bin:/bin"))
    }

    /// Runs the program with `input` on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let file = self.root.path().join("input");
        fs::write(&file, input).unwrap();
        self.run_on(arguments, Path::new("/usr/bin:/bin"), fs::File::open(file).unwrap().into())
    }

    pub fn run_with_path(&self, arguments: &[&str], path: &Path) -> Ended {
        self.run_on(arguments, path, Stdio::null())
    }

    fn run_on(&self, arguments: &[&str], path: &Path, input: Stdio) -> Ended {
        self.ended(self.command(arguments).env("PATH", path).stdin(input))
    }

    /// Returns the program with these arguments, for a test that changes its folder, environment or user.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm"));
        command
            .args(arguments)
            .current_dir(self.path(""))
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/bin:/bin")
            .env("NIXVM_CONNECT", "test:///default")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command and returns its result.
    pub fn ended(&self, command: &mut Command) -> Ended {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(&*self.path("").to_string_lossy(), "WORKSPACE/")
        };
        Ended {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}
