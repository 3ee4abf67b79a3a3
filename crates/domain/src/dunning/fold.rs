//! What an account remembers of its reminders, after each fact.

use super::{
    Dunning, Fact,
    attempt::{
        Claim, ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, ContactWithheld, ListedItem,
        REMEMBERED, WithheldReason,
    },
    ladder::ItemStep,
    policy::Tone,
    reminder::{Reminder, ReminderDue, ReminderState, Unsettled},
};
use crate::ids::DocumentNumber;

impl Dunning {
    /// Folds a fact. Where a message was sent, or may have been: its tone, and the items that it listed as overdue.
    pub(super) fn fold(&mut self, fact: &Fact) -> Option<(Tone, Vec<(DocumentNumber, u32)>)> {
        match fact {
            Fact::ReminderDue(ReminderDue { reminder, notice, takes, retry_of }) => {
                self.reminders = self.reminders.max(*reminder);
                self.open = Some(Reminder {
                    number: *reminder,
                    notice: notice.clone(),
                    takes: takes.clone(),
                    retry_of: *retry_of,
                    attempts: 0,
                    failures: 0,
                    too_late: 0,
                    state: ReminderState::Due { from: None },
                });
            }
            Fact::ContactStarted(started) => {
                if let Some(open) = self.open_reminder(started.reminder) {
                    let takes = |item: &ListedItem| {
                        item.takes.map(|offset_days| ItemStep {
                            invoice: item.invoice.clone(),
                            instalment: item.instalment,
                            offset_days,
                        })
                    };
                    let overdue = started.items.iter().filter(|item| item.due_date < started.day);
                    open.takes = started.items.iter().filter_map(takes).collect();
                    open.notice = started.notice.clone();
                    open.attempts = started.attempt;
                    open.state = ReminderState::Started {
                        claim: started.claim,
                        at: started.at,
                        day: started.day,
                        send_before: started.send_before,
                        overdue: overdue.map(|item| (item.invoice.clone(), item.instalment)).collect(),
                    };
                }
            }
            Fact::ContactDeferred(ContactDeferred { reminder, until, failure, .. }) => {
                if let Some(open) = self.open_reminder(*reminder) {
                    match failure {
                        Some(failure) if open.uses_up_a_retry(failure) => open.failures += 1,
                        Some(_) => open.too_late += 1,
                        None => {}
                    }
                    open.state = ReminderState::Due { from: Some(*until) };
                }
            }
            Fact::ContactWithheld(ContactWithheld { reminder, reason, .. }) => {
                // Of a closed reminder the fact says that a person has seen to it.
                self.unsettled.take_if(|unsettled| unsettled.reminder == *reminder);
                if let Some(open) = self.open.take_if(|open| open.number == *reminder) {
                    match reason {
                        WithheldReason::NoContactPoint => self.unsettled = Some(unsettled(&open, None)),
                        WithheldReason::Settled | WithheldReason::NothingOwed | WithheldReason::Dropped => {
                            self.unsettled = None;
                        }
                        // Nothing was said, and what kept the message back passes: a person sees to the reminder before it.
                        WithheldReason::Held | WithheldReason::SendingOff => {}
                    }
                }
            }
            Fact::ContactAccepted(ContactAccepted { reminder, .. }) => {
                self.unsettled.take_if(|unsettled| unsettled.reminder == *reminder);
                return self.close(*reminder, |_, _| None, true);
            }
            Fact::ContactRejected(ContactRejected { reminder, .. }) => {
                if let Some(unsettled) = self.unsettled.as_mut().filter(|unsettled| unsettled.reminder == *reminder) {
                    unsettled.unknown = None;
                }
                return self.close(*reminder, |open, _| Some(unsettled(open, None)), false);
            }
            Fact::ContactUnknown(ContactUnknown { reminder, .. }) => {
                let unknown = |open: &Reminder, claim| Some(unsettled(open, Some((open.attempts, claim))));
                return self.close(*reminder, unknown, true);
            }
        }
        None
    }

    fn open_reminder(&mut self, reminder: u64) -> Option<&mut Reminder> {
        self.open.as_mut().filter(|open| open.number == reminder)
    }

    /// Closes a started reminder. Where the message was sent, or may have been, it counts as a contact.
    fn close(
        &mut self,
        reminder: u64,
        unsettled: impl Fn(&Reminder, Claim) -> Option<Unsettled>,
        counts: bool,
    ) -> Option<(Tone, Vec<(DocumentNumber, u32)>)> {
        let mut open = self.open.take_if(|open| open.number == reminder)?;
        let ReminderState::Started { claim, at, overdue, .. } = &mut open.state else { return None };
        let (claim, at, overdue) = (*claim, *at, std::mem::take(overdue));
        self.unsettled = unsettled(&open, claim);
        if !counts {
            return None;
        }
        self.recent.retain(|one| at.duration_since(*one) < REMEMBERED);
        self.recent.push(at);
        Some((open.notice.tone, overdue))
    }
}

fn unsettled(open: &Reminder, unknown: Option<(u32, Claim)>) -> Unsettled {
    Unsettled { reminder: open.number, notice: open.notice.clone(), takes: open.takes.clone(), unknown }
}
