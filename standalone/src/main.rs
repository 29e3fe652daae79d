//! `ksched`: everything in one process (`ksched dev`), or the real parts on this
//! machine (`ksched local`).

mod demo;
mod dev;
mod local;
mod programs;

use std::process::ExitCode;

use clap::Parser;

/// A message scheduler for Apache Kafka, to try out.
#[derive(Debug, Parser)]
#[command(name = "ksched", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Everything in one process on loopback, with an embedded Kafka broker, all in memory.
    #[command(after_help = "Examples:\n  ksched dev\n  ksched dev --demo")]
    Dev(dev::Arguments),
    /// Real Apache Kafka, real etcd, coordinators and workers as processes on this machine.
    #[command(after_help = "Examples:
  ksched local up --coordinators 2 --workers 3 --observe
  ksched local kill worker-1
  ksched local down --purge")]
    Local(local::Args),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ksched: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Dev(arguments) => Box::pin(dev::run(arguments)).await,
            Command::Local(arguments) => Box::pin(local::run(arguments)).await,
        }
    });
    // A blocking Kafka call that still waits must not keep the program.
    runtime.shutdown_background();
    code
}
