"""The checker finds what is planted: a small world in which all is well, and one thing after the other that is not."""

import copy
import hmac
import struct
import unittest
from hashlib import sha256
from pathlib import Path

import chains
import judge
import proto

SCHEMA = proto.Schema(Path(__file__).parent / "../../proto")
LOG_ID = bytes(range(16))
KEY = bytes([3]) * 32
# As crates/log/src/frame.rs has it.
GOLDEN = "53414c4402010461636d6503442d370000000000000002070707070707070707070707070707070707070707070707070707070707070700000002787900000001aa2263de269b32336c6e72284bda6132b4c852dabc292b79c58870406d657448"
SMALL = {"seed": 1, "kills": 1, "stops": 1, "brokers": 1, "databases": 1, "cuts": 1, "halves": 1, "delays": 1, "throttles": 1}


def number(value):
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def encode(message, value):
    """The other direction, for tests: fields by name, in the order of their numbers."""
    out = b""
    for index, (name, kind, repeated) in sorted(SCHEMA.messages[message].items()):
        for one in value.get(name, []) if repeated else [value[name]] if value.get(name) not in (None, 0, "", b"") else []:
            if isinstance(one, dict):
                one = encode(kind, one)
            elif isinstance(one, str):
                one = one.encode()
            if isinstance(one, bytes):
                out += number(index << 3 | 2) + number(len(one)) + one
            else:
                out += number(index << 3) + number(one << 1 if kind == "sint32" else one)
    return out


def frame(kind, tenant, account, version, parent, payload):
    ids = b"".join(bytes([len(one)]) + one.encode() for one in (tenant, account))
    before = b"SALD\x02" + bytes([kind]) + ids + struct.pack(">Q32sI", version, parent, len(payload)) + payload + bytes([0, 0, 0, 1])
    return before + hmac.digest(KEY, sha256(before).digest(), "sha256")


def date(day):
    return {"year": 2026, "month": 1, "day": day}


def opened(event):
    import ledger

    return {"type": event[0], "version": 1, "body": encode(ledger.message_of(event[0]), event[1])}


class World:
    """One partition, one account: opened, an invoice, a payment, a refusal, a reminder that was accepted, a lost race."""

    def __init__(self, ended="accepted"):
        genesis = {"log_id": LOG_ID, "partition": 0, "partition_count": 1, "format": 1}
        self.values = [(b"genesis", frame(0, "", "", 0, bytes(32), encode("GenesisPayload", genesis)))]
        self.head, self.version = chains.first_parent(LOG_ID, "acme/D-1"), 0
        self.journal, self.faults = [], []
        saying = {"step": "first"}
        self.commit("a", "OpenAccount", [("account.opened", {"language": "es"})], {})
        self.commit(
            "b", "IssueInvoice",
            [("invoice.issued", {
                "number": "F-1", "currency": "EUR", "total_minor": 1_000, "issue_date": date(1),
                "instalments": [{"number": 1, "due_date": date(1), "amount_minor": 400}, {"number": 2, "due_date": date(2), "amount_minor": 600}],
            })],
            {"document": "F-1", "minor": 1_000, "currency": "EUR"},
        )
        late = self.head, self.version
        lines = [{"invoice_number": "F-1", "instalment": 1, "amount_minor": 400}, {"invoice_number": "F-1", "instalment": 2, "amount_minor": 50}]
        self.commit(
            "c", "RecordPayment",
            [
                ("payment.recorded", {"reference": "P-1", "currency": "EUR", "amount_minor": 450}),
                ("payment.allocated", {"reference": "P-1", "currency": "EUR", "allocated_by": 2, "lines": lines}),
            ],
            {"document": "P-1", "minor": 450, "currency": "EUR"},
        )
        # Somebody was too late with the same.
        self.append("acme", "D-1", late[1] + 1, late[0], {"request_id": "c"})
        self.commit("d", "VoidInvoice", [], {"document": "F-1"}, refusal="INVOICE_HAS_ALLOCATIONS")
        self.commit("e", "AdvanceTime", [("reminder.due", {"reminder": 1, "saying": saying})])
        self.mail = "1bb23c2c@example.com"
        started = {"reminder": 1, "attempt": 1, "stamp": {"id": self.mail}}
        self.commit("f", "StartContactAttempt", [("contact.started", started)])
        handed = {"message_id": self.mail, "sha256": b"\x07" * 32}
        outcome = {"reminder": 1, "attempt": 1, "handed": handed}
        self.commit("g", "RecordContactOutcome", [(f"contact.{ended}", outcome)])
        terms = {"invoices": ["F-1"], "from": date(3), "reason": "complaint"}
        self.commit("h", "PlaceHold", [("hold.placed", {"hold": "H-1", "terms": terms})], {"document": "H-1"})
        self.mails = [{"to": "fine@D-1.example.com", "message_id": self.mail, "sha256": "07" * 32}]
        self.journal.append({"event": "trouble", "id": "b", "tenant": "acme", "account": "D-1", "code": "Unavailable"})
        kinds = ("kill", "broker", "database")
        self.faults = [{"kind": kind, "signal": 9, "pid": 1, "new_pid": 2, "recovered_ms": 9, "tries_without_answer": 1} for kind in kinds]
        self.faults.append({"kind": "stop", "state": "T", "same_process": True, "recovered_ms": 9})
        self.faults += [{"kind": kind} for kind in ("cut", "halve", "delay", "throttle")]
        self.links = [{"reset": 1, "held": 1, "late": 1, "throttled": 1}]
        self.ends = [{"process": "command-1", "pid": 1, "signal": 9, "code": None}]
        self.plan = dict(SMALL)
        self.ended = ended
        self.stored = self.as_stored()

    def append(self, tenant, account, version, parent, payload):
        value = frame(1, tenant, account, version, parent, encode("CommitPayload", payload))
        self.values.append((f"{tenant}/{account}".encode(), value))
        return value

    def commit(self, request_id, method, events, content=None, refusal=None):
        command = f"{method} {request_id}".encode()
        payload = {"request_id": request_id, "method": method, "command": command, "events": [opened(event) for event in events]}
        if refusal:
            payload["refusal"] = {"reason": refusal}
        value = self.append("acme", "D-1", self.version + 1, self.head, payload)
        self.head, self.version = sha256(value).digest(), self.version + 1
        if content is None:
            return
        line = {"id": request_id, "tenant": "acme", "account": "D-1"}
        self.journal.append(line | {"event": "ask", "method": method, "digest": sha256(command).hexdigest(), "content": content})
        answer = line | {"event": "answer", "ok": not refusal, "replayed": False}
        if refusal:
            answer |= {"code": "FailedPrecondition", "reason": refusal}
        else:
            place = {"version": self.version, "partition": 0, "offset": len(self.values) - 1}
            answer |= place | {"events": [name for name, _ in events]}
        self.journal.append(answer)

    def records(self):
        return [(0, offset, key, value) for offset, (key, value) in enumerate(self.values)]

    def as_stored(self):
        key = ("acme", "D-1")
        return {
            "heads": {"acme/D-1": (self.head, self.version)},
            "items": {(*key, "F-1", 1): ("EUR", 0), (*key, "F-1", 2): ("EUR", 550)},
            "credits": {(*key, "payment", "P-1"): ("EUR", 0)},
            "open_items": {(*key, "F-1", 2): ("EUR", 550)},
            "aging": {(*key, "EUR"): (550, 0)},
            "reminders": {(*key, 1): self.ended},
            "attempts": {(*key, 1, 1): self.ended},
            "holds": {(*key, "H-1"): (["F-1"], "2026-01-03", None, "complaint", False)},
            "parked": [],
        }

    def answer(self, request_id):
        return next(line for line in self.journal if line["event"] == "answer" and line["id"] == request_id)

    def ask(self, request_id):
        return next(line for line in self.journal if line["event"] == "ask" and line["id"] == request_id)

    def judge(self):
        judgement = judge.Judgement()
        log = chains.judge(self.records(), SCHEMA, {1: KEY})
        ledger, places = judge.fold(judgement, log, SCHEMA)
        judge.clients(judgement, self.journal, places)
        judge.read_models(judgement, log, ledger, self.stored)
        judge.mails(judgement, ledger, self.mails)
        judge.faults(judgement, self.plan, self.faults, self.links, self.ends, log)
        return judgement


class Planted(unittest.TestCase):
    def setUp(self):
        self.world = World()

    def found(self, *rules):
        self.assertEqual(sorted(self.world.judge().violations), sorted(rules))

    def test_where_all_is_well_nothing_is_found(self):
        self.found()
        self.assertEqual(self.world.judge().counts["records void"], 1)

    def test_an_acknowledged_commit_that_is_missing(self):
        self.world.values.pop(2)
        violations = self.world.judge().violations
        self.assertIn("what is acknowledged is in the log", violations)
        self.assertIn("heads are equal", violations)

    def test_a_request_that_was_committed_twice(self):
        world = self.world
        again = [("payment.recorded", {"reference": "P-2", "currency": "EUR", "amount_minor": 450})]
        world.commit("c", "RecordPayment", again)
        self.assertIn("a request has one commit", world.judge().violations)

    def test_a_document_that_was_booked_twice(self):
        world = self.world
        world.commit("z", "RecordPayment", [("payment.recorded", {"reference": "P-1", "currency": "EUR", "amount_minor": 450})])
        self.assertIn("the ledger adds up", world.judge().violations)

    def test_an_amount_that_was_changed_on_the_way(self):
        self.world.ask("c")["content"]["minor"] = 451
        self.found("what was asked is what was done")

    def test_a_record_that_was_changed_breaks_the_chain(self):
        key, value = self.world.values[2]
        self.world.values[2] = (key, value.replace(b"F-1", b"F-2"))
        self.assertIn("what is acknowledged is in the log", self.world.judge().violations)

    def test_a_command_that_was_stored_otherwise(self):
        self.world.ask("b")["digest"] = "00"
        self.found("the log holds what was asked")

    def test_an_answer_that_points_elsewhere(self):
        self.world.answer("b")["offset"] += 1
        self.found("an answer stands where it says")

    def test_a_second_answer_that_is_another(self):
        self.world.journal.append(self.world.answer("b") | {"version": 9, "replayed": True})
        self.found("an answer stays the same", "an answer stands where it says")

    def test_a_first_answer_given_twice(self):
        self.world.journal.append(dict(self.world.answer("b")))
        self.found("a command is answered first once")

    def test_two_that_wrote_the_same_give_the_first_answer_each(self):
        world = self.world
        world.values.append(world.values[2])
        world.journal.append(dict(world.answer("b")))
        self.found()
        self.assertEqual(world.judge().counts["commits written the same by two"], 1)
        world.journal.append(dict(world.answer("b")))
        self.found("a command is answered first once")

    def test_a_yes_that_the_log_refuses_and_a_no_that_it_took(self):
        world = self.world
        world.answer("d").update(ok=True, version=4, partition=0, offset=5, events=[])
        world.answer("b").update(ok=False, code="NotFound", reason="INVOICE_UNKNOWN")
        self.found("no answer contradicts the log")

    def test_a_command_that_nobody_answered(self):
        self.world.journal.remove(self.world.answer("b"))
        self.found("every command is answered")

    def test_an_answer_that_is_no_refusal(self):
        self.world.answer("d").update(code="Internal", reason="")
        self.found("a no is a refusal")

    def test_a_row_that_differs(self):
        self.world.stored["open_items"][("acme", "D-1", "F-1", 2)] = ("EUR", 551)
        self.world.stored["aging"][("acme", "D-1", "EUR")] = (551, 0)
        self.found("open items are equal", "ageing is equal")

    def test_a_head_that_differs(self):
        self.world.stored["heads"]["acme/D-1"] = (bytes(32), self.world.version)
        self.found("heads are equal")

    def test_a_hold_that_differs(self):
        self.world.stored["holds"][("acme", "D-1", "H-1")] = ([], None, None, "complaint", False)
        self.found("holds are equal")

    def test_somebody_who_was_chased_on_hold(self):
        world = self.world
        world.commit("y", "AdvanceTime", [("reminder.due", {"reminder": 2, "saying": {"step": "second"}})])
        for day, found in ((2, False), (3, True)):
            again = copy.deepcopy(world)
            listed = {"reminder": 2, "attempt": 1, "day": date(day), "items": [{"invoice_number": "F-1", "instalment": 2}]}
            again.commit("z", "StartContactAttempt", [("contact.started", listed)])
            self.assertEqual("the ledger adds up" in again.judge().violations, found)

    def test_a_hold_that_ended_twice(self):
        terms = {"invoices": ["F-1"], "from": date(3), "reason": "complaint"}
        for request in "yz":
            self.world.commit(request, "ReleaseHold", [("hold.released", {"hold": "H-1", "terms": terms})])
        self.assertIn("the ledger adds up", self.world.judge().violations)

    def test_a_mail_that_came_twice(self):
        self.world.mails *= 2
        self.found("no contact twice")

    def again(self, status, **more):
        """What the first reminder says is said again, and that ends so."""
        world = self.world
        world.commit("p", "RetryContact", [("reminder.due", {"reminder": 2, "retry_of": 1, "saying": {"step": "first"}})], {"document": 1})
        world.commit("q", "StartContactAttempt", [("contact.started", {"reminder": 2, "attempt": 1, "stamp": {"id": world.mail}})])
        ended = {"reminder": 2, "attempt": 1} | more
        world.commit("r", "RecordContactOutcome", [(f"contact.{status}", ended)])
        world.stored["reminders"][("acme", "D-1", 2)] = world.stored["attempts"][("acme", "D-1", 2, 1)] = status
        world.stored["heads"]["acme/D-1"] = (world.head, world.version)

    def become(self, status):
        """The first reminder ended otherwise."""
        self.world = World(ended=status)

    def test_what_was_sent_is_not_said_again(self):
        self.again("unknown")
        self.assertIn("the ledger adds up", self.world.judge().violations)

    def test_what_is_unknown_is_said_again_once_for_each_time_a_person_asked(self):
        self.become("unknown")
        self.again("accepted", handed={"message_id": self.world.mail, "sha256": b"\x07" * 32})
        self.found()
        self.world.mails *= 2
        self.found()
        self.world.mails += self.world.mails[:1]
        self.found("no contact twice")

    def test_what_is_said_again_in_other_words_has_another_name(self):
        self.become("unknown")
        self.again("accepted", handed={"message_id": self.world.mail, "sha256": b"\x07" * 32})
        self.world.mails.append(self.world.mails[0] | {"sha256": "08" * 32})
        self.found("the same message says the same")

    def test_a_person_who_was_told_another_reminder(self):
        self.become("unknown")
        self.again("unknown")
        self.world.ask("p")["content"]["document"] = 2
        self.found("what was asked is what was done")

    def test_a_reminder_that_was_dropped_although_it_was_sent_or_twice(self):
        for status, times, found in (("accepted", 1, True), ("unknown", 1, False), ("rejected", 1, False), ("unknown", 2, True)):
            world = World(ended=status)
            for request in "yz"[:times]:
                world.commit(request, "DropContact", [("contact.withheld", {"reminder": 1, "reason": "dropped"})], {"document": 1})
            violations = world.judge().violations
            self.assertEqual("the ledger adds up" in violations, found, (status, times))
            self.assertNotIn("reminders are equal", violations)

    def test_a_reminder_that_was_dropped_is_not_said_again(self):
        self.become("unknown")
        self.world.commit("y", "DropContact", [("contact.withheld", {"reminder": 1, "reason": "dropped"})], {"document": 1})
        self.again("unknown")
        self.assertIn("the ledger adds up", self.world.judge().violations)

    def chased(self, day, **item):
        """Whether it is found that a second reminder lists an item on a day."""
        world = copy.deepcopy(self.world)
        world.commit("y", "AdvanceTime", [("reminder.due", {"reminder": 2, "saying": {"step": "second"}})])
        listed = {"reminder": 2, "attempt": 1, "day": date(day), "items": [item]}
        world.commit("z", "StartContactAttempt", [("contact.started", listed)])
        return "the ledger adds up" in world.judge().violations

    def pay(self, reference, minor):
        paid = ("payment.recorded", {"reference": reference, "currency": "EUR", "amount_minor": minor})
        self.world.commit(reference, "RecordPayment", [paid], {"document": reference, "minor": minor, "currency": "EUR"})

    def test_somebody_who_was_chased_and_owes_nothing(self):
        item = {"invoice_number": "F-1", "instalment": 2}
        self.pay("P-2", 549)
        self.assertFalse(self.chased(2, **item))
        self.pay("P-3", 1)
        self.assertTrue(self.chased(2, **item))
        # What is issued later is not owed yet.
        part = {"number": 1, "due_date": date(20), "amount_minor": 900}
        issued = {"number": "F-2", "currency": "EUR", "total_minor": 900, "issue_date": date(10), "instalments": [part]}
        content = {"document": "F-2", "minor": 900, "currency": "EUR"}
        self.world.commit("n", "IssueInvoice", [("invoice.issued", issued)], content)
        self.assertTrue(self.chased(2, **item))
        self.assertFalse(self.chased(10, invoice_number="F-2", instalment=1))

    def test_somebody_who_was_chased_before_the_issue_date(self):
        part = {"number": 1, "due_date": date(20), "amount_minor": 900}
        issued = {"number": "F-2", "currency": "EUR", "total_minor": 900, "issue_date": date(10), "instalments": [part]}
        content = {"document": "F-2", "minor": 900, "currency": "EUR"}
        self.world.commit("n", "IssueInvoice", [("invoice.issued", issued)], content)
        for day, found in ((9, True), (10, False)):
            self.assertEqual(self.chased(day, invoice_number="F-2", instalment=1), found)

    def test_a_mail_that_never_came_and_one_that_nobody_decided(self):
        self.world.mails[0] = self.world.mails[0] | {"message_id": "other@example.com"}
        self.found("who was reached has the mail", "no mail without an attempt")

    def test_a_mail_in_another_mailbox(self):
        self.world.mails[0]["to"] = "fine@D-2.example.com"
        self.found("a mail goes to its debtor")

    def test_a_kill_that_was_none_and_a_recovery_that_was_slow(self):
        self.world.faults[0]["signal"] = None
        self.world.faults[1]["recovered_ms"] = 31_000
        self.found("faults really happened", "recovery within 30 s")

    def test_faults_that_were_planned_and_did_not_happen(self):
        self.world.plan["brokers"] = 2
        self.world.links = [dict(link, reset=0) for link in self.world.links]
        self.assertEqual(len(self.world.judge().violations["faults really happened"]), 2)

    def test_a_process_that_gave_up_by_itself(self):
        self.world.ends.append({"process": "query-1", "pid": 7, "signal": None, "code": 1})
        self.found("no process gives up by itself")

    def test_a_forged_record_counts_for_nobody(self):
        payload = encode("CommitPayload", {"request_id": "forged"})
        value = frame(1, "acme", "D-1", self.world.version + 1, self.world.head, payload)
        self.world.values.append((b"acme/D-1", value[:-1] + bytes([value[-1] ^ 1])))
        self.assertTrue(self.world.judge().passed)
        self.assertEqual(chains.judge(self.world.records(), SCHEMA, {1: KEY}).void.get("forged"), 1)

    def test_another_genesis(self):
        key, value = self.world.values[0]
        self.world.values[0] = (key, value[:-1] + b"\x02")
        self.assertIn("the log is whole", self.world.judge().violations)

    def test_frames_as_the_format_has_them(self):
        golden = frame(1, "acme", "D-7", 2, b"\x07" * 32, b"xy")
        self.assertEqual(golden.hex(), GOLDEN)
        read = chains.parse(golden)
        self.assertEqual((read.tenant, read.account, read.version, read.payload), ("acme", "D-7", 2, b"xy"))
        for broken in (golden[:-1], golden + b"z", b"X" + golden[1:], golden[:4] + b"\x01" + golden[5:], golden[:5] + b"\x09" + golden[6:]):
            with self.assertRaises(chains.Malformed):
                chains.parse(broken)
        self.assertEqual(chains.partition_of("acme/D-7", 16), 2)
        self.assertEqual(
            chains.first_parent(b"\x01" * 16, "acme/D-7").hex(),
            "44fc6032bb96936a28c4fb30dbd20f83c12c2bd4d5a88a63cfd5f75ba40557a0",
        )


if __name__ == "__main__":
    unittest.main()
