//! `saldo completions`.

use std::process::ExitCode;

use anstream::print;
use clap_complete::Shell;

use super::{Run, root};
use crate::Outcome;

const EXAMPLES: &str = "\
Examples:
  saldo completions bash > ~/.local/share/bash-completion/completions/saldo
  saldo completions zsh > ~/.zfunc/_saldo        with fpath+=~/.zfunc before compinit
  saldo completions fish > ~/.config/fish/completions/saldo.fish";

/// Print completions for a shell.
#[derive(clap::Parser)]
#[command(
    name = "completions",
    after_help = EXAMPLES
)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Run for Completions {
    async fn run(self) -> Outcome {
        print!("{}", String::from_utf8(script(self.shell))?);
        Ok(ExitCode::SUCCESS)
    }
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut root(), "saldo", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).expect("UTF-8");
            for word in [
                "import",
                "invoices",
                "verify",
                "dispatcher",
                "attempt",
                "retry",
                "account",
                "amend",
                "payment",
                "allocate",
                "completions",
            ] {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
        }
    }
}
