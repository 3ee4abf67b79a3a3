//! Starting an attempt: whether a reminder may be sent now, and what its message is made of.

use std::collections::{BTreeMap, HashSet};

use jiff::{Timestamp, ToSpan, civil::Date};
use sha2::{Digest, Sha256};

use super::{
    Fact, Refusal, Silence,
    attempt::{
        Claim, ContactDeferred, ContactStarted, ContactWithheld, DeferredReason, ListedItem, MAX_LISTED, MessageStamp,
        SEND_WITHIN, UnlistedItems, WithheldReason,
    },
    hours::Permitted,
    ladder::ItemStep,
    policy::Sender,
    reminder::{Closing, Reminder, ReminderState, Schedule, day_of, held_by},
};
use crate::{
    account::Account,
    command::Context,
    ledger::OpenItem,
    money::Currency,
    party::{Channel, ContactPoint, Profile},
};

/// A reminder that waits is withheld as soon as all that it is about is on hold, or all of it that something is owed for.
pub(super) fn held(account: &Account, open: &Reminder, context: &Context<'_>) -> Option<Fact> {
    if matches!(open.state, ReminderState::Started { .. }) || account.agreement.holds.is_empty() {
        return None;
    }
    let day = day_of(account, context, context.now);
    let hold = held_by(account, &still_open(account, &open.takes), day)?;
    let withheld = ContactWithheld::of(open.number, WithheldReason::Held, day);
    Some(ContactWithheld { hold: Some(hold.clone()), ..withheld }.into())
}

/// Whether the reminder may be sent now, decided anew on the account as it stands. No facts where the reminder is used up
/// already or waits for a later moment.
pub(super) fn start(
    account: &Account,
    reminder: u64,
    claim: Claim,
    context: &Context<'_>,
) -> Result<Vec<Fact>, Refusal> {
    let now = context.now;
    let Some(open) = account.dunning.open.as_ref().filter(|open| open.number == reminder) else {
        let known = (1..=account.dunning.reminders).contains(&reminder);
        return if known { Ok(Vec::new()) } else { Err(Refusal::ReminderUnknown { reminder }) };
    };
    if !matches!(open.state, ReminderState::Due { from } if from.is_none_or(|from| from <= now)) {
        return Ok(Vec::new());
    }
    let day = day_of(account, context, now);
    let withheld = |reason| Ok(vec![ContactWithheld::of(open.number, reason, day).into()]);
    let policy = match context.rules.speaking() {
        Ok(policy) => policy,
        Err(silence) => {
            let withheld = ContactWithheld::of(open.number, WithheldReason::SendingOff, day);
            return Ok(vec![ContactWithheld { for_every_creditor: silence == Silence::Held, ..withheld }.into()]);
        }
    };
    if open.retry_of.is_some_and(|former| account.dunning.closed == Some((former, Closing::Sent))) {
        // The outcome of the former arrived late: the debtor has the message, so nothing is left to say again.
        return withheld(WithheldReason::Settled);
    }
    let (Some(schedule), Some(profile)) = (Schedule::of(account, policy, context), &account.party.profile) else {
        return withheld(WithheldReason::NoContactPoint);
    };
    let (notice, takes) = if open.retry_of.is_some() {
        // A person asked to say the same again, about what is left of it.
        let free = |step: &ItemStep| account.agreement.holding(&step.invoice, day).is_none();
        let takes = still_open(account, &open.takes).into_iter().filter(free).collect();
        (Some(schedule.as_heard(account, open.notice.clone(), day)), still_owed(account, takes, day))
    } else {
        let due = schedule.due_on(day);
        (schedule.notice(account, &due, day), schedule.takes(account, &due))
    };
    let Some(notice) = notice.filter(|_| !takes.is_empty()) else {
        if let Some(held) = held(account, open, context) {
            return Ok(vec![held]);
        }
        let balances = nothing_owed(account, &open.takes, day);
        if balances.is_empty() {
            return withheld(WithheldReason::Settled);
        }
        let withheld = ContactWithheld::of(open.number, WithheldReason::NothingOwed, day);
        return Ok(vec![ContactWithheld { balances, ..withheld }.into()]);
    };
    let window = match not_now(account, &schedule, reminder, now) {
        Ok(window) => window,
        Err(deferred) => return Ok(vec![deferred.into()]),
    };
    let Some(point) = usable(account, profile, notice.channel) else {
        // The steps of what is still due: what is on hold since is not tried.
        let tried = open.retry_of.is_none().then(|| schedule.tried(account, &takes, day));
        let withheld =
            ContactWithheld { tried, ..ContactWithheld::of(open.number, WithheldReason::NoContactPoint, day) };
        return Ok(vec![withheld.into()]);
    };
    let (items, unlisted) = listed(schedule.spoken_of(account, day), &takes, day);
    let own = context.rules.languages.contains(&profile.language);
    let mut started = ContactStarted {
        reminder,
        attempt: open.attempts + 1,
        claim,
        language: if own { profile.language.clone() } else { policy.sender.language.clone() },
        name: profile.display_name.clone(),
        address: point.address.clone(),
        recipient: point.digest,
        at: now,
        day,
        send_before: now.checked_add(SEND_WITHIN).unwrap_or(now).min(window.to),
        items,
        unlisted,
        unapplied: account
            .ledger
            .unapplied_on(day)
            .into_iter()
            .filter(|(currency, _)| schedule.owed.on(*currency, day))
            .collect(),
        notice,
        stamp: None,
    };
    let template = (started.notice.template.clone(), started.language.clone());
    let id = message_id(open.first, &started, &policy.sender, context.rules.words.get(&template));
    let said_before = open.stamp.as_ref().filter(|before| open.retry_of.is_some() && before.id == id);
    started.stamp = Some(said_before.cloned().unwrap_or(MessageStamp { id, at: now, day }));
    Ok(vec![started.into()])
}

/// The window that is open now, or until when the reminder waits.
pub(super) fn not_now(
    account: &Account,
    schedule: &Schedule<'_>,
    reminder: u64,
    now: Timestamp,
) -> Result<Permitted, ContactDeferred> {
    let permitted = schedule.permitted(account, now);
    permitted.filter(|permitted| permitted.from <= now).ok_or_else(|| {
        let reason = if schedule.within_hours(now) { DeferredReason::Budget } else { DeferredReason::OutsideHours };
        let until = permitted.map(|permitted| permitted.from).or_else(|| account.dunning.recent.last().copied());
        let until = until.unwrap_or(now).max(now.checked_add(1.minute()).unwrap_or(now));
        ContactDeferred { reminder, attempt: 0, reason, until, failure: None, route: false }
    })
}

/// The address that a message goes to: the first of the channel, in the order given, that no provider has refused. Where all
/// were refused, the first is tried again.
pub(super) fn usable<'p>(account: &Account, profile: &'p Profile, channel: Channel) -> Option<&'p ContactPoint> {
    let points = || profile.contact_points.iter().filter(|point| point.channel == channel);
    points().find(|point| !account.dunning.refused.contains(&point.digest)).or_else(|| points().next())
}

/// Names the message by its content, so that a message with the same content has the same name, and another text has another
/// one. The name is a hash, since it must not say whose account it is. `words` is the digest of the template. The debtor's
/// sealed name is part of the content, which no other account has.
fn message_id(first: u64, started: &ContactStarted, sender: &Sender, words: Option<&[u8; 32]>) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(&started.name.0);
    add(&started.address.0);
    let notice = &started.notice;
    for word in [&notice.step, &notice.template, &started.language, &sender.name, &sender.email, &sender.payment] {
        add(word.as_bytes());
    }
    add(words.map(<[u8; 32]>::as_slice).unwrap_or_default());
    add(sender.reply_to.as_deref().unwrap_or_default().as_bytes());
    add(notice.tone.name().as_bytes());
    add(&first.to_be_bytes());
    for item in &started.items {
        add(item.invoice.as_str().as_bytes());
        let words = format!("{} {} {} {}", item.instalment, item.currency, item.open, item.due_date < started.day);
        add(words.as_bytes());
    }
    for rest in &started.unlisted {
        add(format!("{} {} {} {}", rest.currency, rest.items, rest.open, rest.overdue).as_bytes());
    }
    for (currency, minor) in &started.unapplied {
        add(format!("{minor} {currency}").as_bytes());
    }
    let id: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    match (notice.channel, sender.email.rsplit_once('@')) {
        (Channel::Email, Some((_, domain))) => format!("{id}@{domain}"),
        _ => id,
    }
}

/// The steps whose items are still open.
pub(super) fn still_open(account: &Account, takes: &[ItemStep]) -> Vec<ItemStep> {
    let open: HashSet<_> = account.ledger.items.iter().map(|item| (&item.invoice, item.instalment)).collect();
    takes.iter().filter(|step| open.contains(&(&step.invoice, step.instalment))).cloned().collect()
}

/// What the message lists of these items: all that takes a step, and of the rest as much as there is room for; and the sums of
/// what the message does not list.
fn listed<'a>(
    items: impl Iterator<Item = &'a OpenItem>,
    takes: &[ItemStep],
    day: Date,
) -> (Vec<ListedItem>, Vec<UnlistedItems>) {
    let taken: BTreeMap<_, _> = takes.iter().map(|one| ((&one.invoice, one.instalment), one.offset_days)).collect();
    let mut room = MAX_LISTED.saturating_sub(taken.len());
    let mut listed = Vec::new();
    let mut unlisted: BTreeMap<Currency, UnlistedItems> = BTreeMap::new();
    for item in items {
        let takes = taken.get(&(&item.invoice, item.instalment)).copied();
        if takes.is_none() && room == 0 {
            let nothing = UnlistedItems { currency: item.currency, items: 0, open: 0, overdue: 0 };
            let sum = unlisted.entry(item.currency).or_insert(nothing);
            sum.items = sum.items.saturating_add(1);
            sum.open = sum.open.saturating_add(item.open);
            if item.due_date < day {
                sum.overdue = sum.overdue.saturating_add(item.open);
            }
            continue;
        }
        room -= usize::from(takes.is_none());
        listed.push(ListedItem {
            invoice: item.invoice.clone(),
            instalment: item.instalment,
            currency: item.currency,
            due_date: item.due_date,
            open: item.open,
            takes,
        });
    }
    (listed, unlisted.into_values().collect())
}

/// The balances of the currencies of these steps in which nothing is owed on a day, although items of theirs are open.
fn nothing_owed(account: &Account, takes: &[ItemStep], day: Date) -> Vec<(Currency, i64)> {
    let mut balances = account.ledger.nothing_owed_on(day);
    let steps: HashSet<_> = takes.iter().map(|step| (&step.invoice, step.instalment)).collect();
    let items = account.ledger.items.iter().filter(|item| steps.contains(&(&item.invoice, item.instalment)));
    let currencies: HashSet<Currency> = items.map(|item| item.currency).collect();
    balances.retain(|currency, _| currencies.contains(currency));
    balances.into_iter().collect()
}

/// The steps whose items are in a currency in which something is owed on a day.
pub(super) fn still_owed(account: &Account, takes: Vec<ItemStep>, day: Date) -> Vec<ItemStep> {
    let owed = account.ledger.owed();
    let items = account.ledger.items.iter().filter(|item| owed.on(item.currency, day));
    let items: HashSet<_> = items.map(|item| (&item.invoice, item.instalment)).collect();
    takes.into_iter().filter(|step| items.contains(&(&step.invoice, step.instalment))).collect()
}
