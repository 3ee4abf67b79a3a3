//! An account in memory: its state, its commits in flight, and the commands that wait for it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use saldo_facts::Commit;
use saldo_log::AppendError;

use super::{request::QueuedCommand, store::StoredAccount};
use crate::failure::Failure;

/// How often a command is decided again after its account was lost to another writer.
const MAX_RACES: u32 = 16;

/// A commit that was appended and is not read back yet.
pub struct InFlight {
    /// SHA-256 of the record's value.
    pub hash: [u8; 32],
    /// The commit.
    pub commit: Commit,
    /// The command that it answers, to be decided again if the commit is void.
    pub queued: QueuedCommand,
    /// The number of its chain.
    pub chain: u64,
}

/// One account.
#[derive(Default)]
pub struct LiveAccount {
    /// The fold of the commits that the log accepted.
    pub stored: StoredAccount,
    /// The chain in flight, oldest commit first. An account has at most one.
    pub in_flight: VecDeque<InFlight>,
    /// Commands that are not decided yet.
    pub waiting: VecDeque<QueuedCommand>,
    /// Races lost in a row.
    races: u32,
}

impl LiveAccount {
    /// As the store has it: nothing is in flight, and nobody waits.
    pub fn new(stored: StoredAccount) -> Self {
        Self { stored, ..Self::default() }
    }

    /// Whether a command waits or is in flight.
    pub fn is_busy(&self) -> bool {
        !self.in_flight.is_empty() || !self.waiting.is_empty()
    }

    /// Takes the oldest commit in flight, if it has this hash.
    pub fn take_own(&mut self, hash: &[u8; 32]) -> Option<InFlight> {
        if self.in_flight.front()?.hash != *hash {
            return None;
        }
        self.races = 0;
        self.in_flight.pop_front()
    }

    /// Another writer's commit came first, so the chain in flight is void. Its commands wait again, before the others. Returns
    /// how many commits were lost.
    pub fn lose_race(&mut self) -> usize {
        let lost = self.in_flight.len();
        if lost == 0 {
            return 0;
        }
        self.races = self.races.saturating_add(1);
        while let Some(InFlight { mut queued, .. }) = self.in_flight.pop_back() {
            queued.races += 1;
            if queued.races > MAX_RACES {
                queued.answer(Err(Failure::RacesLost));
            } else {
                queued.steps.next("queue");
                self.waiting.push_front(queued);
            }
        }
        lost
    }

    /// How long to wait before deciding again after a lost race: a random part of a span that doubles with each race, so that
    /// two writers do not keep meeting.
    pub fn backoff(&self) -> Option<Duration> {
        if self.races == 0 || !self.in_flight.is_empty() {
            return None;
        }
        let mut random = [0u8; 2];
        getrandom::fill(&mut random).ok()?;
        let span = 500u64 << self.races.min(7);
        Some(Duration::from_micros(span * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX)))
    }

    /// Answers the commands whose clients have stopped waiting, so that they give back their permits. Returns whether a
    /// command still waits.
    pub fn give_up_late(&mut self, now: Instant) -> bool {
        for _ in 0..self.waiting.len() {
            let Some(queued) = self.waiting.pop_front() else { break };
            if queued.is_over(now) {
                queued.answer(Err(Failure::TimedOut));
            } else {
                self.waiting.push_back(queued);
            }
        }
        !self.waiting.is_empty()
    }

    /// The append of a chain failed. Its commands are answered, and the account can be decided on again. Should the records
    /// appear after all, the log's rule decides, as it does for any other writer's. Returns whether it was the chain in flight.
    pub fn fail_chain(&mut self, chain: u64, error: &AppendError) -> bool {
        let failed = self.in_flight.iter().any(|commit| commit.chain == chain);
        if failed {
            let failure = match error {
                AppendError::Unknown(_) => Failure::LogUnknown,
                other => Failure::LogRefused(other.to_string()),
            };
            self.answer_in_flight(&failure);
        }
        failed
    }

    /// The chain was taken by the log and not read back; see [`LiveAccount::fail_chain`].
    pub fn lose_chain(&mut self) {
        self.answer_in_flight(&Failure::LogUnknown);
    }

    /// The history holds something that this release cannot read, so nothing can be decided.
    pub fn park(&mut self, why: String) {
        self.answer_in_flight(&Failure::LogUnknown);
        self.send_away(&Failure::Parked(why.clone()));
        self.stored.parked = Some(why);
    }

    /// The worker ends, and nobody will be answered by it.
    pub fn stop(&mut self) {
        self.answer_in_flight(&Failure::LogUnknown);
        self.send_away(&Failure::Stopped);
    }

    /// Answers every command that waits, undecided.
    pub fn send_away(&mut self, failure: &Failure) {
        for queued in self.waiting.drain(..) {
            queued.answer(Err(failure.clone()));
        }
    }

    fn answer_in_flight(&mut self, failure: &Failure) {
        for InFlight { queued, .. } in self.in_flight.drain(..) {
            queued.answer(Err(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{
        queue::queue,
        request::tests::{Waiting, queued},
    };

    #[test]
    fn a_client_that_stopped_waiting_gives_back_its_permit_even_where_nothing_can_be_decided() {
        let ((sender, _receiver), now) = (queue::<QueuedCommand>(8), Instant::now());
        let mut account = LiveAccount::default();
        let mut answers = Vec::new();
        for (id, deadline) in
            [("late", now), ("gone", now + Duration::from_secs(1)), ("early", now + Duration::from_secs(1))]
        {
            let Waiting { queued, answer } = queued(&sender, id, deadline);
            if id != "gone" {
                answers.push(answer);
            }
            account.waiting.push_back(queued);
        }
        assert!(account.give_up_late(now));
        assert_eq!(sender.depth(), 1);
        assert!(matches!(answers[0].try_recv(), Ok(Err(Failure::TimedOut))));
        assert_eq!(account.waiting[0].draft.request_id, "early");
        assert!(!account.give_up_late(now + Duration::from_secs(1)));
    }
}
