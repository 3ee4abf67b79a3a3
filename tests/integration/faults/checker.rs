//! The checker: a Python program with its own reading of the log, its own fold and its own judgement.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    plan::Plan,
    site::{Site, TOPIC},
};
use crate::{
    Failure, Outcome,
    env::{Env, cache},
};

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/checker");
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");

/// Why it cannot run here.
pub fn missing() -> Option<String> {
    let look = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))";
    let looked = Command::new("python3").args(["-c", look]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    (!looked.is_ok_and(|status| status.success()))
        .then(|| "needs Python 3.11 or newer with venv: install python3 and python3-venv".to_owned())
}

/// The checker finds what is planted for it.
pub async fn planted(_: Arc<Env>) -> Outcome {
    let output = tokio::task::spawn_blocking(|| {
        Command::new("python3").args(["-m", "unittest", "-q", "test_checker"]).current_dir(DIR).output()
    });
    let output = output.await??;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

/// Judges a run. Its report goes to `report.md` and `report.json`, and to standard output.
pub async fn check(site: &Site, dir: &Path, plan: &Plan, seconds: u64) -> Outcome {
    let mut numbers = plan.numbers();
    numbers["lasted_s"] = seconds.into();
    std::fs::write(dir.join("plan.json"), numbers.to_string())?;
    let python = tokio::task::spawn_blocking(python).await??;
    let mut command = Command::new(python);
    command.arg(Path::new(DIR).join("check.py")).arg("--run").arg(dir).args(["--proto", PROTO, "--topic", TOPIC]);
    command.arg("--keys").arg(site.log_keys());
    command.args(["--brokers", &site.kafka.brokers, "--database", &site.database.url(site.database.port)]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("the checker ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// An interpreter with what the checker needs, in a folder of the cache that is named after it.
fn python() -> Result<PathBuf, Failure> {
    let wanted = std::fs::read(Path::new(DIR).join("requirements.txt"))?;
    let name: String = Sha256::digest(&wanted).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let home = cache().join(format!("checker-{name}"));
    let (python, ready) = (home.join("bin/python"), home.join("ready"));
    if ready.exists() {
        return Ok(python);
    }
    let run = |command: &mut Command| -> Outcome {
        let output = command.output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let install = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg(Path::new(DIR).join("requirements.txt")))?;
    std::fs::write(ready, [])?;
    Ok(python)
}
