//! The days that facts of the ledger count from. None lies in the future, so that ladder and ageing agree about every day.

use jiff::{ToSpan, civil::Date};

use super::Refusal;

/// Days that a payment, a credit note, a void, a reversal, an allocation or a refund may be dated ahead of the creditor's day.
/// A bank east of the creditor's time zone writes its own day, which is the creditor's next one at most. A day beyond that is
/// a slip of the pen.
pub const DAYS_AHEAD: i8 = 1;

/// The day that a fact dated `day` counts from: that day, or the creditor's `today` where it is earlier. A debtor who has paid
/// is not chased for a day because of a time zone.
pub(super) fn counted(day: Date, today: Date) -> Result<Date, Refusal> {
    let latest = today.saturating_add(DAYS_AHEAD.days());
    if day > latest { Err(Refusal::DateInFuture { day, latest }) } else { Ok(day.min(today)) }
}

/// The stored form of the day that a fact counts from: nothing where it is the fact's own day.
pub(super) fn apart(counted: Date, day: Date) -> Option<Date> {
    (counted != day).then_some(counted)
}

/// The day that a later act on a credit counts from: the day named, or the creditor's day of the decision. It is never before the
/// day that the credit itself counts from.
pub(super) fn of_credit(named: Option<Date>, counts_from: Date, today: Date) -> Result<Date, Refusal> {
    match named {
        Some(day) if day < counts_from => Err(Refusal::BeforeCredit { counts_from }),
        Some(day) => Ok(counted(day, today)?.max(counts_from)),
        None => Ok(today.max(counts_from)),
    }
}
