//! The journal: requests, answers and faults as JSON lines for the checker.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Failure;

/// Two files, and what is counted on the way.
pub struct Journal {
    begun: Instant,
    asked: Mutex<BufWriter<File>>,
    faults: Mutex<BufWriter<File>>,
    commands: AtomicU64,
    answers: AtomicU64,
    troubles: AtomicU64,
}

impl Journal {
    /// `clients.jsonl` and `faults.jsonl` in this folder.
    pub fn create(dir: &Path, begun: Instant) -> Result<Self, Failure> {
        let file = |name: &str| Ok::<_, Failure>(Mutex::new(BufWriter::new(File::create(dir.join(name))?)));
        Ok(Self {
            begun,
            asked: file("clients.jsonl")?,
            faults: file("faults.jsonl")?,
            commands: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            troubles: AtomicU64::new(0),
        })
    }

    /// Milliseconds since the run began.
    pub fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn write(&self, to: &Mutex<BufWriter<File>>, mut line: Value) {
        line["at"] = self.now().into();
        // A journal that cannot be written is noticed when it is closed.
        let _ = writeln!(to.lock().expect("lock"), "{line}");
    }

    /// A command is about to be asked.
    pub fn ask(&self, line: Value) {
        self.commands.fetch_add(1, Relaxed);
        self.write(&self.asked, line);
    }

    /// It was answered.
    pub fn answer(&self, line: Value) {
        self.answers.fetch_add(1, Relaxed);
        self.write(&self.asked, line);
    }

    /// A try ended without an answer.
    pub fn trouble(&self, line: Value) {
        self.troubles.fetch_add(1, Relaxed);
        self.write(&self.asked, line);
    }

    /// Nobody asks any more: what became of it is unknown.
    pub fn give_up(&self, line: Value) {
        self.write(&self.asked, line);
    }

    /// A fault has happened, and is over.
    pub fn fault(&self, line: Value) {
        println!("faults: {line}");
        self.write(&self.faults, line);
    }

    /// Commands asked so far.
    pub fn commands(&self) -> u64 {
        self.commands.load(Relaxed)
    }

    /// Tries that ended without an answer so far.
    pub fn troubles(&self) -> u64 {
        self.troubles.load(Relaxed)
    }

    /// All that is counted.
    pub fn counts(&self) -> Value {
        let answers = self.answers.load(Relaxed);
        json!({ "commands": self.commands(), "answers": answers, "tries_without_answer": self.troubles() })
    }

    /// Everything is in the files.
    pub fn close(&self) -> Result<(), Failure> {
        for file in [&self.asked, &self.faults] {
            file.lock().expect("lock").flush()?;
        }
        Ok(())
    }
}
