//! What was said to debtors, what was not, and why.

pub const VIEWS: &str = "
CREATE OR REPLACE VIEW bi.reminders AS
  SELECT tenant, account, reminder, step, tone, channel, template, due_at, status, reason, until, attempts, changed_at,
         needs_person, retry_of, version, partition, record_offset
  FROM {s}.reminders;
CREATE OR REPLACE VIEW bi.contact_attempts AS
  SELECT tenant, account, reminder, attempt, step, tone, channel, encode(recipient, 'hex') AS recipient, template,
         language, policy_version, started_at, send_before, status, reason, ended_at, message_id,
         encode(message_sha256, 'hex') AS message_sha256, partition, record_offset
  FROM {s}.attempts
  UNION ALL
  SELECT tenant, account, reminder, 0, step, tone, channel, NULL, template, NULL, NULL, NULL, NULL, status, reason,
         changed_at, NULL, NULL, partition, record_offset
  FROM {s}.reminders WHERE status = 'withheld';
CREATE OR REPLACE VIEW bi.reminders_by_step AS
  SELECT tenant, step, status, count(*) AS reminders FROM {s}.reminders GROUP BY tenant, step, status;
CREATE OR REPLACE VIEW bi.withheld_by_reason AS
  SELECT tenant, reason, count(*) AS reminders FROM {s}.reminders WHERE status = 'withheld' GROUP BY tenant, reason;
";

pub const COMMENTS: &str = "
COMMENT ON VIEW bi.reminders IS 'One row per reminder that the ladder brought or a person asked to say again, and where it stands';
COMMENT ON COLUMN bi.reminders.tenant IS 'The creditor';
COMMENT ON COLUMN bi.reminders.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.reminders.reminder IS 'Number of the reminder on the account, from 1';
COMMENT ON COLUMN bi.reminders.step IS 'Step of the ladder, as its latest attempt spoke';
COMMENT ON COLUMN bi.reminders.tone IS 'friendly, firm or formal';
COMMENT ON COLUMN bi.reminders.channel IS 'email, sms, whatsapp, phone or post';
COMMENT ON COLUMN bi.reminders.template IS 'Name of the message''s template';
COMMENT ON COLUMN bi.reminders.due_at IS 'When it fell due';
COMMENT ON COLUMN bi.reminders.status IS 'due, deferred or started while it is open; accepted, rejected, unknown or withheld once it is closed';
COMMENT ON COLUMN bi.reminders.reason IS 'Why it waits, was withheld, was rejected or is unknown; with stage and code where a hand-over failed';
COMMENT ON COLUMN bi.reminders.until IS 'deferred: when it is due again; started: until when it may be handed over';
COMMENT ON COLUMN bi.reminders.attempts IS 'Attempts started so far';
COMMENT ON COLUMN bi.reminders.changed_at IS 'When its status last changed';
COMMENT ON COLUMN bi.reminders.needs_person IS 'It reached nobody for certain and nobody has seen to it: retry it or drop it';
COMMENT ON COLUMN bi.reminders.retry_of IS 'The reminder that it says again because a person asked; null where the ladder brought it';
COMMENT ON COLUMN bi.reminders.version IS 'Version of the account''s newest commit about it';
COMMENT ON COLUMN bi.reminders.partition IS 'Partition of that commit''s record';
COMMENT ON COLUMN bi.reminders.record_offset IS 'Offset of that commit''s record';
COMMENT ON VIEW bi.contact_attempts IS 'One row per attempt to hand a message over, and one, with attempt 0, per reminder that was withheld';
COMMENT ON COLUMN bi.contact_attempts.tenant IS 'The creditor';
COMMENT ON COLUMN bi.contact_attempts.account IS 'The debtor''s account; opaque id';
COMMENT ON COLUMN bi.contact_attempts.reminder IS 'Number of the reminder on the account, from 1';
COMMENT ON COLUMN bi.contact_attempts.attempt IS 'Number of the attempt on the reminder, from 1; 0 where the reminder was withheld';
COMMENT ON COLUMN bi.contact_attempts.step IS 'Step of the ladder';
COMMENT ON COLUMN bi.contact_attempts.tone IS 'friendly, firm or formal';
COMMENT ON COLUMN bi.contact_attempts.channel IS 'email, sms, whatsapp, phone or post';
COMMENT ON COLUMN bi.contact_attempts.recipient IS 'Keyed digest of the address, in hex: the same for the same address, and not to be turned back; null where withheld';
COMMENT ON COLUMN bi.contact_attempts.template IS 'Name of the message''s template';
COMMENT ON COLUMN bi.contact_attempts.language IS 'ISO 639-1 language of the message; null where withheld';
COMMENT ON COLUMN bi.contact_attempts.policy_version IS 'Version of the tenant''s policies and templates that decided it; null where withheld';
COMMENT ON COLUMN bi.contact_attempts.started_at IS 'When the account allowed it; null where withheld';
COMMENT ON COLUMN bi.contact_attempts.send_before IS 'Nothing of it leaves from this instant on; null where withheld';
COMMENT ON COLUMN bi.contact_attempts.status IS 'started, accepted, rejected, deferred (certainly not handed over, to be tried again), unknown or withheld';
COMMENT ON COLUMN bi.contact_attempts.reason IS 'Why it was withheld or did not get through; with stage and code where the hand-over failed';
COMMENT ON COLUMN bi.contact_attempts.ended_at IS 'When its outcome was recorded; null while it is under way';
COMMENT ON COLUMN bi.contact_attempts.message_id IS 'Message-ID of what was handed over; null where it did not come to that';
COMMENT ON COLUMN bi.contact_attempts.message_sha256 IS 'SHA-256 of the exact bytes handed over, in hex; null where it did not come to that';
COMMENT ON COLUMN bi.contact_attempts.partition IS 'Partition of the newest record about it';
COMMENT ON COLUMN bi.contact_attempts.record_offset IS 'Offset of the newest record about it';
COMMENT ON VIEW bi.reminders_by_step IS 'How many reminders stand where, by step of the ladder';
COMMENT ON COLUMN bi.reminders_by_step.tenant IS 'The creditor';
COMMENT ON COLUMN bi.reminders_by_step.step IS 'Step of the ladder';
COMMENT ON COLUMN bi.reminders_by_step.status IS 'As in bi.reminders';
COMMENT ON COLUMN bi.reminders_by_step.reminders IS 'How many';
COMMENT ON VIEW bi.withheld_by_reason IS 'How many reminders were withheld, by reason';
COMMENT ON COLUMN bi.withheld_by_reason.tenant IS 'The creditor';
COMMENT ON COLUMN bi.withheld_by_reason.reason IS 'settled, sending_off, no_contact_point or dropped';
COMMENT ON COLUMN bi.withheld_by_reason.reminders IS 'How many';
";
