//! `saldo`, the one binary.

/// A request passes through many short-lived allocations of a few KiB on one thread that another frees.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    saldo::main_from_args()
}
