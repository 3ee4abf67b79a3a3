//! The dunning policy: an ordered ladder of steps, and when and how often a debtor may be contacted.
//!
//! A policy is data that a creditor publishes. [`Policy::check`] names everything in it that cannot be worked with; the
//! rules here are of logic. What a country allows comes beside it, as data of its own.

mod text;

use jiff::civil::{Time, Weekday};
use serde::{Deserialize, Serialize};

use crate::{
    fault::FieldFault,
    line::is_one_line,
    party::{Channel, email::check_email},
};

/// Steps one ladder can have.
pub const MAX_STEPS: usize = 20;
/// Days before and after the due date a step can stand at; two years after it other means are in order.
pub const OFFSET_DAYS: std::ops::RangeInclusive<i32> = -60..=730;
/// Windows one policy can have: three a day.
pub const MAX_WINDOWS: usize = 21;
/// Longest name of a step or template, in bytes.
pub const MAX_NAME_LEN: usize = 32;
/// Contacts a day that a policy may allow in all; collection contacts are one a day whatever it says.
pub const MAX_PER_DAY: u32 = 5;
/// Pauses between tries at most.
pub const MAX_BACKOFF: usize = 10;
/// Longest pause between two tries, in minutes: a week.
pub const MAX_BACKOFF_MINUTES: u32 = 7 * 24 * 60;
/// Shortest window, in minutes: below it a wake-up that is a little late misses it.
pub const MIN_WINDOW_MINUTES: i64 = 30;

/// How a message speaks. None ever threatens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// A friendly word.
    Friendly,
    /// Clear about what is expected.
    Firm,
    /// A formal demand.
    Formal,
}

impl Tone {
    /// The tone's stable name, in rows and files.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Friendly => "friendly",
            Tone::Firm => "firm",
            Tone::Formal => "formal",
        }
    }
}

/// One step of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, for people and figures: lower case letters, digits and hyphens.
    pub name: String,
    /// Days after the due date; negative before it, 0 on it.
    pub offset_days: i32,
    /// How it speaks.
    pub tone: Tone,
    /// Where.
    #[serde(with = "text::channel")]
    pub channel: Channel,
    /// The template's name.
    pub template: String,
}

/// Hours of some weekdays, in the zone of [`Contact::time_zone`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days.
    #[serde(with = "text::weekdays")]
    pub days: Vec<Weekday>,
    /// From this minute on.
    #[serde(with = "text::minute")]
    pub from: Time,
    /// Up to this minute, which is outside; midnight is that at the end of the day, written `24:00`.
    #[serde(with = "text::end_minute")]
    pub to: Time,
}

impl Window {
    /// Its first minute of the day, and the one behind its last.
    fn minutes(&self) -> (i64, i64) {
        let end = minute_of_day(self.to);
        (minute_of_day(self.from), if end == 0 { 24 * 60 } else { end })
    }
}

/// When and how often a debtor may be contacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// The zone that the windows are in: `debtor`, or an IANA name.
    #[serde(default = "debtor")]
    pub time_zone: String,
    /// The hours.
    #[serde(rename = "window")]
    pub windows: Vec<Window>,
    /// Days between two steps of one item at least.
    pub min_distance_days: u32,
    /// Contacts with one debtor a day at most.
    pub max_per_day: u32,
    /// Contacts with one debtor in seven days at most.
    pub max_per_week: u32,
    /// Minutes to wait after the first, second, … temporary failure; after the last the attempt has failed.
    pub backoff_minutes: Vec<u32>,
    /// Whether a message may list overdue items in a milder tone than the newest message that listed them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_soften: bool,
}

/// In whose name messages go out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// The creditor, as debtors know it.
    pub name: String,
    /// Sends from here.
    pub email: String,
    /// Answers go here, if not to the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// How to pay, as it stands in messages: account number, reference, a link.
    pub payment: String,
    /// The language for debtors in whose own no template is written, ISO 639-1.
    pub language: String,
}

/// A creditor's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// In whose name.
    pub sender: Sender,
    /// When and how often.
    pub contact: Contact,
    /// The ladder, by ascending offset.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// The zone name that stands for the debtor's own.
pub const DEBTOR_ZONE: &str = "debtor";

fn debtor() -> String {
    DEBTOR_ZONE.to_owned()
}

impl Policy {
    /// Names every fault; none where the policy can be worked with. `zone_exists` knows the IANA names.
    pub fn check(&self, zone_exists: impl Fn(&str) -> bool) -> Vec<FieldFault> {
        let mut faults = Faults::default();
        self.sender.check(&mut faults);
        self.contact.check(&mut faults, zone_exists);
        self.check_steps(&mut faults);
        faults.0
    }

    fn check_steps(&self, faults: &mut Faults) {
        if self.steps.is_empty() || self.steps.len() > MAX_STEPS {
            faults.add("step", format!("must be 1 to {MAX_STEPS} steps"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            let path = |field: &str| format!("step[{index}].{field}");
            for (field, name) in [("name", &step.name), ("template", &step.template)] {
                if !is_name(name) {
                    faults.add(
                        path(field),
                        format!("must be 1 to {MAX_NAME_LEN} lower case letters, digits and hyphens"),
                    );
                }
            }
            if step.channel != Channel::Email {
                faults.add(path("channel"), "must be \"email\": this release sends reminders by e-mail alone");
            }
            if !OFFSET_DAYS.contains(&step.offset_days) {
                let (first, last) = (OFFSET_DAYS.start(), OFFSET_DAYS.end());
                faults.add(path("offset_days"), format!("must be {first} to {last} days from the due date"));
            }
            if self.steps[..index].iter().any(|before| before.name == step.name) {
                faults.add(path("name"), "must be another than every step's before it");
            }
            let Some(before) = index.checked_sub(1).and_then(|index| self.steps.get(index)) else { continue };
            let distance = i64::from(step.offset_days) - i64::from(before.offset_days);
            if distance < i64::from(self.contact.min_distance_days).max(1) {
                let least = i64::from(before.offset_days) + i64::from(self.contact.min_distance_days).max(1);
                faults.add(
                    path("offset_days"),
                    format!("must be {least} or later: steps ascend, and stand contact.min_distance_days apart"),
                );
            }
            if step.tone < before.tone {
                faults.add(path("tone"), "must not be milder than the step's before it");
            }
        }
    }
}

impl Contact {
    /// The zone of the windows, by its IANA name, for a debtor in this zone.
    pub fn zone<'z>(&'z self, debtors: &'z str) -> &'z str {
        if self.time_zone == DEBTOR_ZONE { debtors } else { &self.time_zone }
    }

    fn check(&self, faults: &mut Faults, zone_exists: impl Fn(&str) -> bool) {
        if self.time_zone != DEBTOR_ZONE && !zone_exists(&self.time_zone) {
            faults.add("contact.time_zone", "must be \"debtor\" or an IANA time zone such as Europe/Madrid");
        }
        if self.windows.is_empty() || self.windows.len() > MAX_WINDOWS {
            faults.add("contact.window", format!("must be 1 to {MAX_WINDOWS} windows, or nothing could ever be sent"));
        }
        for (index, window) in self.windows.iter().enumerate() {
            let path = |field: &str| format!("contact.window[{index}].{field}");
            if window.days.is_empty() {
                faults.add(path("days"), "must name a weekday");
            }
            if (window.days.iter().enumerate()).any(|(at, day)| window.days[..at].contains(day)) {
                faults.add(path("days"), "must name each weekday once");
            }
            let (from, to) = window.minutes();
            if to - from < MIN_WINDOW_MINUTES {
                faults.add(
                    path("to"),
                    format!("must be {MIN_WINDOW_MINUTES} minutes or more after from, on the same day"),
                );
            }
            let overlaps = self.windows[..index].iter().any(|other| {
                let (other_from, other_to) = other.minutes();
                other.days.iter().any(|day| window.days.contains(day)) && from < other_to && other_from < to
            });
            if overlaps {
                faults.add(path("from"), "must not overlap a window before it on the same day");
            }
        }
        if self.min_distance_days > 365 {
            faults.add("contact.min_distance_days", "must be 0 to 365");
        }
        if !(1..=MAX_PER_DAY).contains(&self.max_per_day) {
            faults.add("contact.max_per_day", format!("must be 1 to {MAX_PER_DAY}"));
        }
        if self.max_per_week < self.max_per_day || self.max_per_week > 7 * MAX_PER_DAY {
            let rule = format!(
                "must be at least {}, which is contact.max_per_day, and at most {}",
                self.max_per_day,
                7 * MAX_PER_DAY
            );
            faults.add("contact.max_per_week", rule);
        }
        if self.backoff_minutes.len() > MAX_BACKOFF
            || self.backoff_minutes.iter().any(|minutes| !(1..=MAX_BACKOFF_MINUTES).contains(minutes))
        {
            let rule = format!("must be at most {MAX_BACKOFF} pauses of 1 to {MAX_BACKOFF_MINUTES} minutes");
            faults.add("contact.backoff_minutes", rule);
        }
    }
}

impl Sender {
    fn check(&self, faults: &mut Faults) {
        let texts = [
            ("name", &self.name, 100, is_one_line(&self.name)),
            ("payment", &self.payment, 1_000, self.payment.split('\n').all(is_one_line)),
        ];
        for (field, text, longest, reads) in texts {
            if text.trim().is_empty() || text.chars().count() > longest || !reads {
                let rule = format!(
                    "must be 1 to {longest} characters, without control characters, line separators and direction marks"
                );
                faults.add(format!("sender.{field}"), rule);
            }
        }
        for (field, address) in [("email", Some(&self.email)), ("reply_to", self.reply_to.as_ref())] {
            if let Some(rule) = address.and_then(|address| check_email(address).err()) {
                faults.add(format!("sender.{field}"), rule);
            }
        }
    }
}

/// Lower case letters, digits and hyphens.
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn minute_of_day(time: Time) -> i64 {
    i64::from(time.hour()) * 60 + i64::from(time.minute())
}

#[derive(Default)]
struct Faults(Vec<FieldFault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.0.push(FieldFault { field: field.into(), rule: rule.into() });
    }
}
