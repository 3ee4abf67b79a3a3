"""Compares what the log says with what clients were told, what the read models hold and what the mail server was given."""

from collections import Counter, defaultdict
from hashlib import sha256

from ledger import Ledger, iso

REFUSALS = {"NotFound", "AlreadyExists", "FailedPrecondition"}
# Said without a commit: there is no account whose history could hold it.
WITHOUT_COMMIT = {"ACCOUNT_UNKNOWN"}
# What each command must have brought about, and the fields that hold what was asked: document, amount, currency.
BROUGHT = {
    "OpenAccount": ("account.opened", None, None),
    "IssueInvoice": ("invoice.issued", "number", "total_minor"),
    "CreditInvoice": ("invoice.credited", "credit_note_number", "amount_minor"),
    "VoidInvoice": ("invoice.voided", "number", None),
    "RecordPayment": ("payment.recorded", "reference", "amount_minor"),
    "AllocatePayment": ("payment.allocated", "reference", None),
    "DeallocatePayment": ("payment.deallocated", "reference", None),
    "AllocateCreditNote": ("credit_note.allocated", "credit_note_number", None),
    "DeallocateCreditNote": ("credit_note.deallocated", "credit_note_number", None),
    "RefundCredit": ("credit.refunded", "reference", "amount_minor"),
    "ReversePayment": ("payment.reversed", "reference", None),
    "PlaceHold": ("hold.placed", "hold", None),
    "AmendHold": ("hold.amended", "hold", None),
    "ReleaseHold": ("hold.released", "hold", None),
    "RetryContact": ("reminder.due", "retry_of", None),
    "DropContact": ("contact.withheld", "reminder", None),
}
RECOVERY_LIMIT_MS = 30_000


class Judgement:
    """Violations by rule, with examples, and counts."""

    def __init__(self):
        self.violations = defaultdict(list)
        self.counts = {}

    def find(self, rule, what):
        self.violations[rule].append(str(what))

    @property
    def passed(self):
        return not self.violations


def fold(judgement, log, schema):
    """The ledger, and every request's place: {(tenant, account, request id): [(commit, events)]}."""
    ledger, places = Ledger(schema), defaultdict(list)
    for commit in log.accepted:
        events = ledger.add(commit)
        places[(commit.tenant, commit.account, commit.payload["request_id"])].append((commit, events))
    for fault in log.faults:
        judgement.find("the log is whole", fault)
    for fault in ledger.faults:
        judgement.find("the ledger adds up", fault)
    for key, found in places.items():
        if len(found) > 1:
            judgement.find("a request has one commit", f"{key} has {len(found)}")
    judgement.counts |= {
        "records": log.records,
        "commits accepted": len(log.accepted),
        "records void": log.void_count,
        "commits written the same by two": sum(commit.copies > 1 for commit in log.accepted),
        "accounts": len(log.heads),
    }
    return ledger, places


def clients(judgement, journal, places):
    """Every answer against the log."""
    asked, answers, given_up, troubles = {}, defaultdict(list), set(), Counter()
    for line in journal:
        key = (line["tenant"], line["account"], line["id"])
        if line["event"] == "ask":
            asked[key] = line
        elif line["event"] == "answer":
            answers[key].append(line)
        elif line["event"] == "given_up":
            given_up.add(key)
        else:
            troubles[line["code"]] += 1
    unknown = 0
    for key, ask in asked.items():
        found = places.get(key, [])
        told = answers.get(key, [])
        for commit, events in found:
            content(judgement, key, ask, commit, events)
        if not told:
            unknown += 1
            if key not in given_up:
                judgement.find("every command is answered", f"{key}: {ask['method']}")
        for answer in told:
            one_answer(judgement, key, ask, answer, found)
        if len({shape(answer) for answer in told}) > 1:
            judgement.find("an answer stays the same", f"{key}: {[shape(answer) for answer in told]}")
        # Instances that wrote the same record, byte for byte, have each the first answer to give.
        first = max((commit.copies for commit, _ in found), default=1)
        if sum(answer["ok"] and not answer["replayed"] for answer in told) > first:
            judgement.find("a command is answered first once", f"{key}: {told}")
    acknowledged = sum(any(answer["ok"] for answer in told) for told in answers.values())
    judgement.counts |= {
        "commands asked": len(asked),
        "commands acknowledged": acknowledged,
        "commands refused": len(answers) - acknowledged,
        "commands of unknown outcome": unknown,
        "of these in the log": sum(1 for key in asked if key not in answers and key in places),
        "tries without an answer": sum(troubles.values()),
        "answers given again": sum(answer["replayed"] for told in answers.values() for answer in told),
    }
    if not sum(troubles.values()):
        judgement.find("faults really happened", "no try ever went without an answer")
    return troubles


def shape(answer):
    """An answer but for whether it is given again."""
    if answer["ok"]:
        return (True, answer["version"], answer["partition"], answer["offset"], tuple(answer["events"]))
    return (False, answer["code"], answer["reason"])


def one_answer(judgement, key, ask, answer, found):
    commit = found[0][0] if found else None
    refusal = commit.payload["refusal"] if commit else None
    if answer["ok"]:
        if commit is None:
            judgement.find("what is acknowledged is in the log", f"{key}: {ask['method']}")
        elif refusal is not None:
            judgement.find("no answer contradicts the log", f"{key}: a yes, and the log says {refusal['reason']}")
        else:
            place = (commit.version, commit.partition, commit.offset)
            said = (answer["version"], answer["partition"], answer["offset"])
            if place != said:
                judgement.find("an answer stands where it says", f"{key}: said {said}, is {place}")
            types = [event["type"] for event in commit.payload["events"]]
            if types != answer["events"]:
                judgement.find("no answer contradicts the log", f"{key}: said {answer['events']}, is {types}")
    elif answer["code"] not in REFUSALS:
        judgement.find("a no is a refusal", f"{key}: {answer['code']} {answer['reason']}")
    elif commit is None:
        if answer["reason"] not in WITHOUT_COMMIT:
            judgement.find("a refusal is in the log", f"{key}: {answer['reason']}")
    elif refusal is None or refusal["reason"] != answer["reason"]:
        judgement.find("no answer contradicts the log", f"{key}: a no ({answer['reason']}), and the log says {refusal}")


def content(judgement, key, ask, commit, events):
    """What was asked is what was done."""
    payload = commit.payload
    if payload["method"] != ask["method"] or sha256(payload["command"]).hexdigest() != ask["digest"]:
        judgement.find("the log holds what was asked", f"{key}: {ask['method']}")
    if payload["refusal"] is not None:
        return
    kind, document, amount = BROUGHT[ask["method"]]
    said = ask["content"]
    # Time may have brought facts of the same kind before.
    done = [body for name, body in events if name == kind and (not document or body[document] == said["document"])]
    right = len(done) == 1
    if right and amount:
        right = done[0][amount] == said["minor"] and done[0]["currency"] == said["currency"]
    if not right:
        judgement.find("what was asked is what was done", f"{key}: {ask['method']} {said}")


def read_models(judgement, log, ledger, stored):
    """Postgres: heads, items, credits, sums, reminders, attempts."""
    compare(judgement, "heads are equal", log.heads, stored["heads"])
    items, credits, sums, reminders, attempts, holds = {}, {}, {}, {}, {}, {}
    for key, account in ledger.accounts.items():
        for (invoice, instalment), item in account.items.items():
            items[(*key, invoice, instalment)] = (item.currency, item.open)
        for (kind, document), (currency, unapplied) in account.credits.items():
            credits[(*key, kind, document)] = (currency, unapplied)
        for currency, both in account.balances().items():
            sums[(*key, currency)] = both
        for reminder, status in account.reminders.items():
            reminders[(*key, reminder)] = status
        for (reminder, attempt), (status, *_) in account.attempts.items():
            attempts[(*key, reminder, attempt)] = status
        for hold, (terms, released) in account.holds.items():
            days = [iso(terms[name]) for name in ("from", "until")]
            holds[(*key, hold)] = (terms["invoices"], *days, terms["reason"], released)
    compare(judgement, "invoices are equal", items, stored["items"])
    compare(judgement, "payments and credit notes are equal", credits, stored["credits"])
    open_items = {key: value for key, value in (items | credits_as_items(credits)).items() if value[1]}
    compare(judgement, "open items are equal", open_items, stored["open_items"])
    compare(judgement, "ageing is equal", sums, stored["aging"])
    compare(judgement, "reminders are equal", reminders, stored["reminders"])
    compare(judgement, "attempts are equal", attempts, stored["attempts"])
    compare(judgement, "holds are equal", holds, stored["holds"])
    for key in stored["parked"]:
        judgement.find("no account is parked", key)
    for key, status in reminders.items():
        if status == "due":
            judgement.find("nothing is stuck", f"reminder {key} is due still")
    judgement.counts |= {
        "open items": len(open_items), "reminders": len(reminders), "attempts": len(attempts), "holds": len(holds),
        "holds released": sum(released for *_, released in holds.values()),
    }
    for status, count in sorted(Counter(attempts.values()).items()):
        judgement.counts[f"attempts {status}"] = count


def credits_as_items(credits):
    return {(tenant, account, document, 0): value for (tenant, account, _, document), value in credits.items()}


def compare(judgement, rule, ours, theirs):
    for key in sorted(ours.keys() | theirs.keys(), key=str):
        if ours.get(key) != theirs.get(key):
            judgement.find(rule, f"{key}: by the log {ours.get(key)}, in Postgres {theirs.get(key)}")


def mails(judgement, ledger, received):
    """Nobody hears anything twice unless a person asked for it, and everybody what the log says they heard."""
    by_id = defaultdict(list)
    for mail in received:
        by_id[mail["message_id"]].append(mail)
    known = set()
    for (tenant, account), debtor in ledger.accounts.items():
        tries = defaultdict(list)
        for (reminder, _), (status, name, hash) in debtor.attempts.items():
            tries[name].append((reminder, status, hash))
        for reminder in debtor.reminders:
            accepted = [1 for (of, _), (status, *_) in debtor.attempts.items() if of == reminder and status == "accepted"]
            if len(accepted) > 1:
                judgement.find("no contact twice", f"{tenant}/{account} reminder {reminder}: accepted more than once")
        for name, of_it in tries.items():
            found = by_id.get(name, [])
            known.update(mail["message_id"] for mail in found)
            who = f"{tenant}/{account}, {', '.join(f'reminder {reminder} {status}' for reminder, status, _ in of_it)}"
            # A person may have had what is unknown said again: the same message, once for each reminder.
            perhaps = {reminder for reminder, status, _ in of_it if status in ("accepted", "unknown", "started")}
            if len(found) > max(len(perhaps), 1):
                judgement.find("no contact twice", f"{who}: {len(found)} mails")
            hashes = [mail["sha256"] for mail in found]
            accepted = [hash for _, status, hash in of_it if status == "accepted"]
            if any(hashes.count(hash) < accepted.count(hash) for hash in accepted):
                judgement.find("who was reached has the mail", f"{who}: {found}")
            if len(set(hashes)) > 1:
                judgement.find("the same message says the same", f"{who}: {found}")
            if found and not perhaps:
                judgement.find("no mail without an attempt", f"{who}: {found}")
            if any(not mail["to"].endswith(f"@{account}.example.com") for mail in found):
                judgement.find("a mail goes to its debtor", f"{who}: {found}")
    for name, mails_of_it in by_id.items():
        if name not in known:
            judgement.find("no mail without an attempt", f"{name}: {mails_of_it}")
    judgement.counts["mails received"] = len(received)
    if not received:
        judgement.find("faults really happened", "nobody was ever reminded")


def faults(judgement, plan, journal, links, ends, log):
    """They really happened, as often as planned, and everything came back in time."""
    done = defaultdict(list)
    for fault in journal:
        done[fault["kind"]].append(fault)
    planned = {
        "kill": "kills", "stop": "stops", "broker": "brokers", "database": "databases",
        "cut": "cuts", "halve": "halves", "delay": "delays", "throttle": "throttles",
    }
    for kind, name in planned.items():
        if len(done[kind]) != plan[name] or not plan[name]:
            judgement.find("faults really happened", f"{len(done[kind])} of {plan[name]} {name}")
    for fault in done["kill"] + done["broker"] + done["database"]:
        if fault["signal"] != 9 or fault["new_pid"] in (None, fault["pid"]):
            judgement.find("faults really happened", f"not killed, or not started again: {fault}")
    for fault in done["stop"]:
        if fault["state"] != "T" or not fault["same_process"]:
            judgement.find("faults really happened", f"not stopped, or another process: {fault}")
    if not any(fault["tries_without_answer"] for fault in done["broker"]):
        judgement.find("faults really happened", "no client noticed that the broker was gone")
    for effect in ("reset", "held", "late", "throttled"):
        if not sum(link[effect] for link in links):
            judgement.find("faults really happened", f"no connection was ever {effect}")
    killed = Counter(end["pid"] for end in ends if end["signal"] == 9)
    if killed != Counter(fault["pid"] for fault in done["kill"]):
        judgement.find("faults really happened", "other processes were killed than the journal says")
    for end in ends:
        if end["signal"] != 9:
            judgement.find("no process gives up by itself", end)
    if not log.void_count:
        judgement.find("faults really happened", "no race was ever lost: no record is void")
    for kind in ("kill", "stop", "broker", "database"):
        for fault in done[kind]:
            # A server's own start is not ours to hurry.
            if fault["recovered_ms"] - fault.get("started_ms", 0) > RECOVERY_LIMIT_MS:
                judgement.find("recovery within 30 s", fault)
    return done
