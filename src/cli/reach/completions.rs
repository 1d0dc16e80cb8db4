use crate::cli::Shown;

#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell to write it for
    shell: clap_complete::Shell,
}

pub fn run(args: &Completions, mut nixvm: clap::Command) -> Shown {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut nixvm, "nixvm", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    Shown::new(&text, text.clone())
}
