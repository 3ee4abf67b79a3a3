//! Everything that becomes of reminders, and the rows that tell it.

use saldo_domain::dunning::{ReminderState, WithheldReason};
use saldo_test_postgres::Outcome;

use crate::story::{
    Story, accepted, again, deferred, due, given_up, no_answer, no_outcome, refused, started, started_friendlier,
    waits, withheld,
};

const FAILED: &str = "1.1 rejected refused: rcpt 550";

/// Stories, and what the rows say in the end: of each reminder, then of each attempt.
pub fn all() -> Vec<(Story, Vec<&'static str>)> {
    let told = |name, commits, rows: &[&'static str]| (Story::of(name, commits), rows.to_vec());
    let dropped = |reminder| withheld(reminder, WithheldReason::Dropped);
    let held = |reminder| withheld(reminder, WithheldReason::Held);
    vec![
        told(
            "sent",
            vec![vec![due(1)], vec![started(1, 1)], vec![accepted(1, 1)]],
            &["1 second accepted, v3", "1.1 accepted <1@acme.example>"],
        ),
        told("due", vec![vec![due(1)]], &["1 second due, ready 09:01, v1"]),
        told(
            "under-way-with-a-friendlier-word",
            vec![vec![due(1)], vec![started_friendlier(1, 1)]],
            &["1 first started, until 09:03, v2", "1.1 started"],
        ),
        told(
            "after-the-night",
            vec![vec![due(1)], vec![waits(1)], vec![started(1, 1)], vec![accepted(1, 1)]],
            &["1 second accepted, v4", "1.1 accepted <1@acme.example>"],
        ),
        told(
            "waits-for-the-morning",
            vec![vec![due(1)], vec![waits(1)]],
            &["1 second deferred outside_hours, ready 19:00, until 19:00, v2"],
        ),
        told(
            "deferred-and-tried-again",
            vec![vec![due(1)], vec![started(1, 1)], vec![deferred(1, 1)], vec![started(1, 2)], vec![accepted(1, 2)]],
            &["1 second accepted, v5", "1.1 deferred hand_over_failed: rcpt 450", "1.2 accepted <2@acme.example>"],
        ),
        told(
            "deferred-until-nobody-tries-any-more",
            vec![vec![due(1)], vec![started(1, 1)], vec![deferred(1, 1)], vec![started(1, 2)], vec![given_up(1, 2)]],
            &[
                "1 second rejected retries_exhausted: connect, v5, needs a person",
                "1.1 deferred hand_over_failed: rcpt 450",
                "1.2 rejected retries_exhausted: connect",
            ],
        ),
        told(
            "unknown-then-accepted",
            vec![vec![due(1)], vec![started(1, 1)], vec![no_outcome(1, 1)], vec![accepted(1, 1)]],
            &["1 second accepted, v4", "1.1 accepted <1@acme.example>"],
        ),
        told(
            "unknown-then-refused",
            vec![vec![due(1)], vec![started(1, 1)], vec![no_answer(1, 1)], vec![refused(1, 1)]],
            &[
                "1 second rejected refused: rcpt 550, v4, needs a person",
                "1.1 rejected refused: rcpt 550 <1@acme.example>",
            ],
        ),
        told(
            "unknown-and-left-so",
            vec![vec![due(1)], vec![started(1, 1)], vec![no_answer(1, 1)], vec![dropped(1)]],
            &["1 second unknown no_answer, v4", "1.1 unknown no_answer <1@acme.example>"],
        ),
        told(
            "unknown-and-the-ladder-goes-on",
            vec![vec![due(1)], vec![started(1, 1)], vec![no_outcome(1, 1), due(2)]],
            &["1 second unknown no_outcome, v3", "2 second due, ready 09:03, v3", "1.1 unknown no_outcome"],
        ),
        told(
            "refused-and-said-again",
            vec![vec![due(1)], vec![started(1, 1)], vec![refused(1, 1)], vec![again(2, 1)], vec![started(2, 1)]],
            &[
                "1 second rejected refused: rcpt 550, v3",
                "2 second started, until 09:03, again 1, v5",
                "1.1 rejected refused: rcpt 550",
                "2.1 started",
            ],
        ),
        told(
            "said-again-and-held-back",
            vec![vec![due(1)], vec![started(1, 1)], vec![refused(1, 1)], vec![again(2, 1)], vec![held(2)]],
            &["1 second rejected refused: rcpt 550, v3, needs a person", "2 second withheld held, again 1, v5", FAILED],
        ),
        told(
            "said-again-and-settled",
            vec![
                vec![due(1)],
                vec![started(1, 1)],
                vec![refused(1, 1)],
                vec![again(2, 1)],
                vec![withheld(2, WithheldReason::Settled)],
            ],
            &["1 second rejected refused: rcpt 550, v3", "2 second withheld settled, again 1, v5", FAILED],
        ),
        told(
            "refused-and-the-ladders-next-is-settled",
            vec![
                vec![due(1)],
                vec![started(1, 1)],
                vec![refused(1, 1)],
                vec![due(2)],
                vec![withheld(2, WithheldReason::Settled)],
                vec![due(3), withheld(3, WithheldReason::NothingOwed)],
            ],
            &[
                "1 second rejected refused: rcpt 550, v3, needs a person",
                "2 second withheld settled, v5",
                "3 second withheld nothing_owed, v6",
                FAILED,
            ],
        ),
        told(
            "said-again-while-sending-is-off-and-dropped",
            vec![
                vec![due(1)],
                vec![started(1, 1)],
                vec![refused(1, 1)],
                vec![again(2, 1)],
                vec![withheld(2, WithheldReason::SendingOff)],
                vec![dropped(1)],
                vec![due(3), held(3)],
            ],
            &[
                "1 second rejected refused: rcpt 550, v6",
                "2 second withheld sending_off, again 1, v5",
                "3 second withheld held, v7",
                FAILED,
            ],
        ),
        told(
            "held-back-twice-and-then-said",
            vec![
                vec![due(1)],
                vec![started(1, 1)],
                vec![refused(1, 1)],
                vec![due(2), held(2), due(3)],
                vec![held(3), due(4)],
                vec![started(4, 1)],
                vec![accepted(4, 1)],
                vec![due(5), held(5)],
            ],
            &[
                "1 second rejected refused: rcpt 550, v3",
                "2 second withheld held, v4",
                "3 second withheld held, v5",
                "4 second accepted, v7",
                "5 second withheld held, v8",
                FAILED,
                "4.1 accepted <1@acme.example>",
            ],
        ),
        told(
            "held-back-again-and-again",
            vec![
                vec![due(1)],
                vec![started(1, 1)],
                vec![no_outcome(1, 1)],
                vec![due(2), held(2)],
                vec![due(3)],
                vec![held(3)],
            ],
            &[
                "1 second unknown no_outcome, v3, needs a person",
                "2 second withheld held, v4",
                "3 second withheld held, v6",
                "1.1 unknown no_outcome",
            ],
        ),
        told(
            "unknown-and-accepted-before-the-newer-is-held-back",
            vec![
                vec![due(1)],
                vec![started(1, 1)],
                vec![no_outcome(1, 1), due(2)],
                vec![accepted(1, 1)],
                vec![held(2)],
            ],
            &["1 second accepted, v4", "2 second withheld held, v5", "1.1 accepted <1@acme.example>"],
        ),
        told("dropped", vec![vec![due(1)], vec![dropped(1)]], &["1 second withheld dropped, v2"]),
        told(
            "dropped-while-it-waits",
            vec![vec![due(1)], vec![waits(1)], vec![dropped(1)]],
            &["1 second withheld dropped, v3"],
        ),
        told(
            "settled",
            vec![vec![due(1)], vec![withheld(1, WithheldReason::Settled)], vec![due(2)], vec![started(2, 1)]],
            &["1 second withheld settled, v2", "2 second started, until 09:03, v4", "2.1 started"],
        ),
        told(
            "nobody-to-reach",
            vec![vec![due(1)], vec![withheld(1, WithheldReason::NoContactPoint)]],
            &["1 second withheld no_contact_point, v2, needs a person"],
        ),
        told(
            "nobody-to-reach-and-seen-to",
            vec![vec![due(1)], vec![withheld(1, WithheldReason::NoContactPoint)], vec![dropped(1)]],
            &["1 second withheld no_contact_point, v3"],
        ),
    ]
}

pub fn one_batch_tells_the_story() -> Outcome {
    for (story, expected) in all() {
        assert_eq!(told(&story), expected, "{}", story.name);
    }
    Ok(())
}

/// The domain says the same of open reminders and of reminders that a person should look at.
pub fn the_domain_says_the_same() -> Outcome {
    for (story, _) in all() {
        let contacts = story.account().dunning;
        let rows = story.rows().reminders.changes;
        let numbers = |of: &dyn Fn(&str, bool) -> bool| -> Vec<u64> {
            let some = rows.iter().filter(|(_, row)| of(row.standing.status, row.needs_person));
            some.map(|(key, _)| key.reminder).collect()
        };
        let (due, deferred, started) = match contacts.open.as_ref().map(|open| (open.number, &open.state)) {
            Some((number, ReminderState::Due { from: None })) => (vec![number], vec![], vec![]),
            Some((number, ReminderState::Due { from: Some(_) })) => (vec![], vec![number], vec![]),
            Some((number, ReminderState::Started { .. })) => (vec![], vec![], vec![number]),
            None => (vec![], vec![], vec![]),
        };
        let unsettled: Vec<u64> = contacts.needs_person().into_iter().collect();
        assert_eq!(rows.len() as u64, contacts.reminders, "{}", story.name);
        assert_eq!(numbers(&|status, _| status == "due"), due, "{}", story.name);
        assert_eq!(numbers(&|status, _| status == "deferred"), deferred, "{}", story.name);
        assert_eq!(numbers(&|status, _| status == "started"), started, "{}", story.name);
        assert_eq!(numbers(&|_, needs_person| needs_person), unsettled, "{}", story.name);
    }
    Ok(())
}

pub fn history_is_one_line_each_without_personal_data() -> Outcome {
    let lines = |name: &str| {
        let (story, _) = all().into_iter().find(|(story, _)| story.name == name).expect("a story");
        story.rows().history.rows.into_iter().map(|row| row.summary).collect::<Vec<_>>()
    };
    assert_eq!(
        lines("deferred-and-tried-again"),
        [
            "Reminder 1 due: second (firm, e-mail), 2 items",
            "Reminder 1 on its way by e-mail, attempt 1: 1,234.50 EUR open in 2 items, 50.00 EUR not applied yet",
            "Reminder 1 waits until 2026-03-02T10:00:00Z: attempt 1 failed (rcpt 450)",
            "Reminder 1 on its way by e-mail, attempt 2: 1,234.50 EUR open in 2 items, 50.00 EUR not applied yet",
            "Reminder 1 sent: attempt 2 accepted by the provider",
        ]
    );
    assert_eq!(
        lines("refused-and-said-again")[2..4],
        [
            "Reminder 1 not sent: the provider refused attempt 1 (rcpt 550)",
            "Reminder 2 due: second (firm, e-mail), 2 items, saying reminder 1 again",
        ]
    );
    assert_eq!(
        lines("unknown-and-left-so")[2..],
        [
            "Reminder 1 may or may not have been sent, attempt 1: the provider did not answer",
            "Reminder 1 dropped: a person decided so",
        ]
    );
    assert_eq!(lines("settled")[1], "Reminder 1 withheld: settled, nothing of it is open any more");
    Ok(())
}

fn told(story: &Story) -> Vec<String> {
    let rows = story.rows();
    let mut lines = Vec::new();
    for (key, row) in &rows.reminders.changes {
        let step = row.notice.as_ref().map_or("", |notice| notice.step.as_str());
        let standing = &row.standing;
        let mut line = format!("{} {step} {}", key.reminder, standing.status);
        let time = |at: jiff::Timestamp| at.strftime("%H:%M").to_string();
        let mut add = |before: &str, text: Option<String>| {
            if let Some(text) = text {
                line += &format!("{before}{text}");
            }
        };
        add(" ", standing.reason.clone());
        add(", ready ", standing.ready_at.map(time));
        add(", until ", standing.until.map(time));
        add(", again ", row.fell_due.as_ref().and_then(|due| due.retry_of).map(|former| former.to_string()));
        add(", v", Some(row.position.version.to_string()));
        add("", row.needs_person.then(|| ", needs a person".to_owned()));
        lines.push(line);
    }
    for (key, row) in &rows.attempts.changes {
        let mut line = format!("{}.{} {}", key.reminder.reminder, key.attempt, row.status);
        let handed = row.message_sha256.and(row.message_id.clone());
        row.reason.clone().into_iter().chain(handed).for_each(|text| line += &format!(" {text}"));
        lines.push(line);
    }
    lines
}
