//! The `aesop` command.

use aesop::cli::{self, Cli};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The TLS crates bring two providers between them; without a choice the first handshake panics.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    cli::start_tracing(&cli.globals);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::report(&cli.globals, &error.into()),
    };
    let globals = cli.globals.clone();
    match runtime.block_on(cli::run(cli)) {
        Ok(exit) => exit.into(),
        Err(error) => cli::report(&globals, &error),
    }
}
