//! `saldo`, the one binary.

fn main() -> std::process::ExitCode {
    saldo::main_from_args()
}
