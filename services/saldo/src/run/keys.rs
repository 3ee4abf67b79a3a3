//! The public keys that sign tokens, as their files say now. A key that is removed from its file, or whose file is gone, stops
//! working within a second, and no restart is needed.

use std::time::Duration;

use saldo_auth::{KeyError, PublicKey, Verifier};
use tokio_util::sync::CancellationToken;

use crate::{Failure, config::KeyFile};

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(1);

pub struct Keys {
    files: Vec<KeyFile>,
    /// Keys of this process, which stand in no file.
    own: Vec<PublicKey>,
    verifier: Verifier,
    /// What the files held, and why one could not be read.
    read: Vec<Result<String, String>>,
}

impl Keys {
    /// Reads the files. Each must be there at the start.
    pub fn open(files: Vec<KeyFile>, own: Vec<PublicKey>, longest_life: Duration) -> Result<Self, Failure> {
        let read = read(&files);
        if let Some(why) = read.iter().find_map(|read| read.as_ref().err()) {
            return Err(why.clone().into());
        }
        let verifier = Verifier::new(keys(&files, &own, &read), longest_life)?;
        Ok(Self { files, own, verifier, read })
    }

    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// Reads the files again and again.
    pub async fn follow(mut self, stop: CancellationToken) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(EVERY) => {}
            }
            let files = self.files.clone();
            let now = tokio::task::spawn_blocking(move || read(&files)).await?;
            if now == self.read {
                continue;
            }
            self.read = now;
            let faults = self.verifier.replace(keys(&self.files, &self.own, &self.read));
            let faults = faults.iter().map(KeyError::to_string);
            let unread = self.read.iter().filter_map(|read| read.as_ref().err().cloned());
            for why in unread.chain(faults) {
                tracing::error!(why, "tokens of these keys are not taken");
            }
            tracing::info!("the keys of tokens were read again");
        }
    }
}

fn read(files: &[KeyFile]) -> Vec<Result<String, String>> {
    let why = |file: &KeyFile, error| format!("{}: {}: {error}", file.setting, file.path.display());
    files.iter().map(|file| std::fs::read_to_string(&file.path).map_err(|error| why(file, error))).collect()
}

fn keys(files: &[KeyFile], own: &[PublicKey], read: &[Result<String, String>]) -> Vec<PublicKey> {
    let from_files = files.iter().zip(read).filter_map(|(file, read)| {
        let name = format!("{}: {}", file.setting, file.path.display());
        read.as_ref().ok().map(|pem| PublicKey { name, pem: pem.clone(), scope: file.scope.clone() })
    });
    from_files.chain(own.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use saldo_auth::{Issuer, Role, Scope};

    use super::*;

    async fn becomes(verifier: &Verifier, token: &str, taken: bool) {
        while verifier.verify(token).is_ok() != taken {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_key_counts_from_when_it_stands_in_its_file_until_it_stands_there_no_more() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("issuer.pub.pem");
        let life = Duration::from_secs(3_600);
        let pair = || {
            let issuer = Issuer::generate().expect("a key");
            let token = issuer.issue("erp", "acme", &[Role::Writer], life).expect("a token");
            (issuer.public_pem().expect("PEM"), token)
        };
        let ((former, old), (next, new)) = (pair(), pair());
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
        write(&path, &former);
        let files = vec![KeyFile { setting: "auth.public_keys", path: path.clone(), scope: Scope::people() }];
        let keys = Keys::open(files, Vec::new(), life).expect("opened");
        let (verifier, stop) = (keys.verifier(), CancellationToken::new());
        let following = tokio::spawn(keys.follow(stop.clone()));
        assert!(verifier.verify(&old).is_ok() && verifier.verify(&new).is_err());
        write(&path, &format!("{former}{next}"));
        becomes(&verifier, &new, true).await;
        write(&path, &next);
        becomes(&verifier, &old, false).await;
        assert!(verifier.verify(&new).is_ok());
        write(&path, "half of a key");
        becomes(&verifier, &new, false).await;
        write(&path, &next);
        becomes(&verifier, &new, true).await;
        std::fs::remove_file(&path).expect("removed");
        becomes(&verifier, &new, false).await;
        stop.cancel();
        following.await.expect("no panic").expect("ended");
    }
}
