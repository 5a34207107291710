//! The command `unmix`: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    unmix::cli::main()
}
