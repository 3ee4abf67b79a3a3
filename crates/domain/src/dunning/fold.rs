//! What an account remembers of its reminders, after each fact.

use super::{
    Dunning, Fact,
    attempt::{
        ContactAccepted, ContactDeferred, ContactRejected, ContactUnknown, ContactWithheld, ListedItem, REMEMBERED,
        RejectedReason, WithheldReason,
    },
    ladder::ItemStep,
    policy::Tone,
    reminder::{Closing, Reminder, ReminderDue, ReminderState, UnknownAttempt, Unsettled},
};
use crate::{ids::DocumentNumber, party::Channel};

impl Dunning {
    /// Folds a fact. Where a message was sent, or may have been: its tone, and the items that it listed as overdue.
    pub(super) fn fold(&mut self, fact: &Fact) -> Option<(Tone, Vec<(DocumentNumber, u32)>)> {
        match fact {
            Fact::ReminderDue(ReminderDue { reminder, notice, takes, retry_of, note: _ }) => {
                self.reminders = self.reminders.max(*reminder);
                let former = self.unsettled.as_ref().filter(|former| Some(former.reminder) == *retry_of);
                self.open = Some(Reminder {
                    number: *reminder,
                    notice: notice.clone(),
                    takes: takes.clone(),
                    retry_of: *retry_of,
                    first: former.filter(|former| former.stamp.is_some()).map_or(*reminder, |former| former.first),
                    stamp: former.and_then(|former| former.stamp.clone()),
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
                        recipient: started.recipient,
                        stamp: started.stamp.clone(),
                    };
                }
            }
            Fact::ContactDeferred(ContactDeferred { reminder, until, failure, route, .. }) => {
                if let Some(open) = self.open_reminder(*reminder) {
                    match failure {
                        Some(_) if *route => {}
                        Some(failure) if open.uses_up_a_retry(failure) => open.failures += 1,
                        Some(_) => open.too_late += 1,
                        None => {}
                    }
                    open.state = ReminderState::Due { from: Some(*until) };
                }
            }
            Fact::ContactWithheld(ContactWithheld { reminder, reason, took, .. }) => {
                // Of a closed reminder the fact says that a person has seen to it.
                let closing =
                    if *reason == WithheldReason::Dropped { Closing::Dropped } else { Closing::Withheld(*reason) };
                if self.unsettled.take_if(|unsettled| unsettled.reminder == *reminder).is_some() {
                    self.closed = Some((*reminder, closing));
                }
                if let Some(open) = self.open.take_if(|open| open.number == *reminder) {
                    match reason {
                        WithheldReason::NoContactPoint => {
                            self.fails_on(open.notice.channel);
                            self.unsettled = Some(unsettled(&open, took.steps.is_empty()));
                        }
                        WithheldReason::Dropped => {
                            (self.unsettled, self.closed) = (None, Some((*reminder, closing)));
                        }
                        // The ladder's own reminder can be about other items: a person sees to the reminder before it.
                        WithheldReason::Settled | WithheldReason::NothingOwed => {
                            self.unsettled.take_if(|unsettled| open.retry_of == Some(unsettled.reminder));
                            self.closed = Some((*reminder, closing));
                        }
                        // Nothing was said, and what kept the message back passes: a person sees to the reminder before it.
                        WithheldReason::Held | WithheldReason::SendingOff => self.closed = Some((*reminder, closing)),
                    }
                }
            }
            Fact::ContactAccepted(ContactAccepted { reminder, .. }) => {
                if self.unsettled.take_if(|unsettled| unsettled.reminder == *reminder).is_some() {
                    self.closed = Some((*reminder, Closing::Sent));
                }
                return self.close(*reminder, |_| None, true);
            }
            Fact::ContactRejected(rejected) => {
                let ContactRejected { reminder, reason, took, .. } = rejected;
                let refuted = self.refuted(rejected).map(|unknown| unknown.at);
                let mut recipient = self.open_reminder(*reminder).and_then(|open| open.recipient());
                let mut channel = self.open_reminder(*reminder).map(|open| open.notice.channel);
                if let Some(unsettled) = self.unsettled.as_mut().filter(|unsettled| unsettled.reminder == *reminder) {
                    recipient = unsettled.unknown.take().map(|unknown| unknown.recipient).or(recipient);
                    if unsettled.first == unsettled.reminder {
                        unsettled.stamp = None;
                    }
                    if refuted.is_some() {
                        unsettled.wants_steps = true;
                        channel = Some(unsettled.notice.channel);
                    }
                }
                self.recent.retain(|at| Some(*at) != refuted);
                if *reason == RejectedReason::AddressRefused
                    && let Some(recipient) = recipient
                    && !self.refused.contains(&recipient)
                {
                    self.refused.push(recipient);
                }
                if let Some(channel) = channel {
                    self.fails_on(channel);
                }
                return self.close(*reminder, |open| Some(unsettled(open, took.steps.is_empty())), false);
            }
            Fact::ContactUnknown(ContactUnknown { reminder, .. }) => {
                return self.close(*reminder, unknown, true);
            }
        }
        None
    }

    fn fails_on(&mut self, channel: Channel) {
        if !self.failed_on.contains(&channel) {
            self.failed_on.push(channel);
        }
    }

    fn open_reminder(&mut self, reminder: u64) -> Option<&mut Reminder> {
        self.open.as_mut().filter(|open| open.number == reminder)
    }

    /// Closes a started reminder. Where the message was sent, or may have been, it counts as a contact.
    fn close(
        &mut self,
        reminder: u64,
        unsettled: impl Fn(&Reminder) -> Option<Unsettled>,
        counts: bool,
    ) -> Option<(Tone, Vec<(DocumentNumber, u32)>)> {
        let mut open = self.open.take_if(|open| open.number == reminder)?;
        let ReminderState::Started { at, overdue, recipient, .. } = &mut open.state else { return None };
        let (at, overdue, recipient) = (*at, std::mem::take(overdue), *recipient);
        self.unsettled = unsettled(&open);
        if self.unsettled.is_none() {
            self.closed = Some((reminder, Closing::Sent));
            self.refused.retain(|refused| *refused != recipient);
        }
        if !counts {
            return None;
        }
        self.recent.retain(|one| at.duration_since(*one) < REMEMBERED);
        self.recent.push(at);
        Some((open.notice.tone, overdue))
    }
}

/// Of a reminder that certainly reached nobody.
fn unsettled(open: &Reminder, wants_steps: bool) -> Unsettled {
    let (notice, takes, stamp) = (open.notice.clone(), open.takes.clone(), open.stamp.clone());
    Unsettled { reminder: open.number, first: open.first, notice, takes, stamp, wants_steps, unknown: None }
}

/// Of a reminder that may have reached the debtor.
fn unknown(open: &Reminder) -> Option<Unsettled> {
    let ReminderState::Started { claim, recipient, at, day, ref stamp, .. } = open.state else { return None };
    let (is_retry, before) = (open.retry_of.is_some(), Vec::new());
    let unknown = Some(UnknownAttempt { attempt: open.attempts, claim, recipient, at, day, is_retry, before });
    Some(Unsettled { stamp: stamp.clone(), unknown, ..unsettled(open, false) })
}
