//! The `nixvm` program.

fn main() -> std::process::ExitCode {
    nixvm::cli::run()
}
