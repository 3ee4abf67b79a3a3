//! An account in memory: its state, the chain on its way to the log, and who waits.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use saldo_facts::Commit;
use saldo_log::AppendError;

use super::{Ask, MAX_RACES};
use crate::{
    failure::Failure,
    store::{Store, StoreError, StoredAccount},
};

/// A commit on its way.
pub struct Pending {
    /// SHA-256 of the record's value.
    pub hash: [u8; 32],
    /// What it says.
    pub commit: Commit,
    /// The request it answers, to be decided again if the commit is lost.
    pub ask: Ask,
    /// The number of its chain.
    pub chain: u64,
}

/// One account.
#[derive(Default)]
pub struct Live {
    /// The fold of what the log accepted.
    pub stored: StoredAccount,
    /// The chain on its way, oldest first.
    pub pending: VecDeque<Pending>,
    /// Requests not yet decided.
    pub waiting: VecDeque<Ask>,
    /// Races lost in a row.
    races: u32,
}

/// The account, from memory or from the store.
pub fn load<'a>(
    accounts: &'a mut HashMap<Box<str>, Box<Live>>,
    store: &Store,
    key: &str,
) -> Result<&'a mut Live, StoreError> {
    if !accounts.contains_key(key) {
        let live = Live { stored: store.account(key)?, ..Live::default() };
        accounts.insert(key.into(), Box::new(live));
    }
    Ok(accounts.entry(key.into()).or_default())
}

impl Live {
    /// Whether anybody waits.
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty() || !self.waiting.is_empty()
    }

    /// The oldest commit of the chain, if this is it.
    pub fn take_own(&mut self, hash: &[u8; 32]) -> Option<Pending> {
        if self.pending.front()?.hash != *hash {
            return None;
        }
        self.races = 0;
        self.pending.pop_front()
    }

    /// Another writer's commit came first: the chain is void, its requests go back to the front of the queue. How many
    /// commits were lost.
    pub fn lose_race(&mut self) -> usize {
        let lost = self.pending.len();
        if lost == 0 {
            return 0;
        }
        self.races = self.races.saturating_add(1);
        while let Some(Pending { mut ask, .. }) = self.pending.pop_back() {
            ask.races += 1;
            if ask.races > MAX_RACES {
                let _ = ask.reply.send(Err(Failure::RacesLost));
            } else {
                ask.steps.next("queue");
                self.waiting.push_front(ask);
            }
        }
        lost
    }

    /// How long to wait before deciding again: a random part of a span that doubles with each race lost, so that two
    /// writers do not keep meeting.
    pub fn rest(&self) -> Option<Duration> {
        if self.races == 0 || !self.pending.is_empty() {
            return None;
        }
        let mut random = [0u8; 2];
        getrandom::fill(&mut random).ok()?;
        let span = 500u64 << self.races.min(7);
        Some(Duration::from_micros(span * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX)))
    }

    /// Answers those whose clients have stopped waiting, so that they give back their places in the queue. Whether anybody
    /// still waits.
    pub fn give_up_late(&mut self, now: Instant) -> bool {
        for _ in 0..self.waiting.len() {
            let Some(ask) = self.waiting.pop_front() else { break };
            if ask.is_over(now) {
                let _ = ask.reply.send(Err(Failure::TimedOut));
            } else {
                self.waiting.push_back(ask);
            }
        }
        !self.waiting.is_empty()
    }

    /// The chain's append failed. Its requests are answered, and the account is free to be decided on again: should
    /// the records appear after all, the log's rule decides, as it does for any other writer's.
    pub fn fail_chain(&mut self, chain: u64, error: &AppendError) -> bool {
        let failed = self.pending.iter().any(|pending| pending.chain == chain);
        if failed {
            let failure = match error {
                AppendError::Unknown(_) => Failure::LogUnknown,
                other => Failure::LogRefused(other.to_string()),
            };
            self.answer_pending(&failure);
        }
        failed
    }

    /// The chain was taken and never came back; see [`Live::fail_chain`].
    pub fn lose_chain(&mut self) {
        self.answer_pending(&Failure::LogUnknown);
    }

    /// The history has something this release cannot read: nobody can be answered.
    pub fn park(&mut self, why: String) {
        self.answer_pending(&Failure::LogUnknown);
        self.send_away(&Failure::Parked(why.clone()));
        self.stored.parked = Some(why);
    }

    /// The worker ends.
    pub fn stop(&mut self) {
        self.answer_pending(&Failure::LogUnknown);
        self.send_away(&Failure::Stopped);
    }

    /// Nothing is decided for those who wait.
    pub fn send_away(&mut self, failure: &Failure) {
        for ask in self.waiting.drain(..) {
            let _ = ask.reply.send(Err(failure.clone()));
        }
    }

    /// A client that went away does not hear it, and asks again with its request id.
    fn answer_pending(&mut self, failure: &Failure) {
        for Pending { ask, .. } in self.pending.drain(..) {
            let _ = ask.reply.send(Err(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use saldo_domain::command::Command;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{queue::queue, worker::Draft};

    #[test]
    fn who_stopped_waiting_gives_back_its_place_even_where_nothing_can_be_decided() {
        let ((giver, _taker), now) = (queue::<Ask>(8), Instant::now());
        let mut live = Live::default();
        let mut answers = Vec::new();
        for (id, deadline) in
            [("late", now), ("gone", now + Duration::from_secs(1)), ("early", now + Duration::from_secs(1))]
        {
            let (reply, answer) = oneshot::channel();
            if id != "gone" {
                answers.push(answer);
            }
            live.waiting.push_back(Ask {
                key: "acme/D-1".into(),
                tenant: "acme".into(),
                account: "D-1".into(),
                draft: Draft {
                    request_id: id.into(),
                    method: "AdvanceTime",
                    fingerprint: [0; 32],
                    command: Vec::new(),
                    sealed: Vec::new(),
                    actor: "scheduler".into(),
                    actor_roles: Vec::new(),
                },
                command: Command::AdvanceTime,
                after: 0,
                races: 0,
                deadline,
                reply,
                steps: Default::default(),
                _place: giver.enter("acme", now, now).expect("a place"),
                _held: None,
            });
        }
        assert!(live.give_up_late(now));
        assert_eq!(giver.depth(), 1);
        assert!(matches!(answers[0].try_recv(), Ok(Err(Failure::TimedOut))));
        assert_eq!(live.waiting[0].draft.request_id, "early");
        assert!(!live.give_up_late(now + Duration::from_secs(1)));
    }
}
