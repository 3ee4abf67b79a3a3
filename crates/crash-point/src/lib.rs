//! Named places where a test can have the process killed, as the power would: no destructor runs, no buffer is flushed.
//!
//! In a debug build a process that is started with `SALDO_CRASH_AT=name` dies at [`crash_point`]`("name")`, and with
//! `SALDO_CRASH_AT=name:3` at the third passing. In a release build nothing happens.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// The environment variable that names the place.
pub const VARIABLE: &str = "SALDO_CRASH_AT";

/// A place and the passing at which it is the end.
#[derive(Debug, PartialEq, Eq)]
struct Fate {
    name: String,
    passing: u64,
}

impl Fate {
    fn parse(text: &str) -> Self {
        let counted = text.rsplit_once(':').and_then(|(name, passing)| Some((name, passing.parse().ok()?)));
        let (name, passing) = counted.unwrap_or((text, 1));
        Self { name: name.to_owned(), passing }
    }
}

static FATE: OnceLock<Option<Fate>> = OnceLock::new();
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Kills the own process with SIGKILL if this is the place and the passing that the environment names; debug builds only.
pub fn crash_point(name: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let fate = FATE.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| Fate::parse(&text)));
    let Some(fate) = fate.as_ref().filter(|fate| fate.name == name) else { return };
    if PASSED.fetch_add(1, Ordering::SeqCst) + 1 == fate.passing {
        die();
    }
}

fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // SIGKILL cannot be held off; whoever comes back from it was not sent one.
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    #[test]
    fn a_fate_names_a_place_and_a_passing() {
        let fate = |name: &str, passing| Fate { name: name.to_owned(), passing };
        assert_eq!(Fate::parse("dispatcher.started"), fate("dispatcher.started", 1));
        assert_eq!(Fate::parse("dispatcher.started:3"), fate("dispatcher.started", 3));
        assert_eq!(Fate::parse("dispatcher.started:x"), fate("dispatcher.started:x", 1));
    }

    /// Runs as the child of the test below; by itself nothing is set and it passes all three times.
    #[test]
    fn passes_three_times() {
        for _ in 0..3 {
            crash_point("test.here");
        }
    }

    #[test]
    fn the_process_is_killed_at_the_named_passing_and_not_otherwise() {
        let child = |at: &str| {
            let mut command = Command::new(std::env::current_exe().expect("path"));
            command.args(["--exact", "tests::passes_three_times"]).env(VARIABLE, at);
            command.output().expect("run").status
        };
        for at in ["test.here", "test.here:3"] {
            assert_eq!(child(at).signal(), Some(9), "{at}");
        }
        for at in ["test.here:4", "test.there"] {
            assert!(child(at).success(), "{at}");
        }
    }
}
