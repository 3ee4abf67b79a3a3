//! `saldo completions`.

use std::process::ExitCode;

use anstream::print;
use clap_complete::Shell;

use crate::{Outcome, cli};

/// How they are put to use.
pub const EXAMPLES: &str = "\
Examples:
  saldo completions bash > ~/.local/share/bash-completion/completions/saldo
  saldo completions zsh > ~/.zfunc/_saldo        with fpath+=~/.zfunc before compinit
  saldo completions fish > ~/.config/fish/completions/saldo.fish";

/// What `completions` takes.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Whose.
    shell: Shell,
}

/// Prints them.
pub fn run(args: CompletionsArgs) -> Outcome {
    print!("{}", String::from_utf8(script(args.shell))?);
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "saldo", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell)).expect("UTF-8");
            for word in ["import", "invoices", "verify", "dispatcher", "attempt", "retry", "completions"] {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
        }
    }
}
