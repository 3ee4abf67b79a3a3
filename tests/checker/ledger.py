"""What the accepted events come to: per account and currency what is open of each invoice and what is unapplied, and what
was said to whom. Written from the meaning of the events, not from anybody's code."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

# Every type and version that was ever stored has a golden file, `invoice.issued.v1.hex`.
GOLDEN = Path(__file__).parent / "../../crates/facts/tests/golden"
KNOWN = {(kind, int(rest.split(".")[0])) for kind, rest in (path.name.rsplit(".v", 1) for path in GOLDEN.glob("*.v*.hex"))}


def message_of(kind):
    """`invoice.issued` stands as message InvoiceIssued of events.proto."""
    return "".join(word.capitalize() for word in kind.replace("_", ".").split("."))


OLDEST_DUE_FIRST = 2


@dataclass
class Item:
    original: int
    open: int
    due: tuple
    currency: str
    issued: tuple


@dataclass
class Account:
    # (invoice, instalment): Item
    items: dict = field(default_factory=dict)
    # (kind, document): [currency, unapplied]
    credits: dict = field(default_factory=dict)
    # reminder: status
    reminders: dict = field(default_factory=dict)
    # Reminders that a person may have said again, or drop: they reached nobody, or nobody knows.
    tasks: set = field(default_factory=set)
    # (reminder, attempt): (status, message id, hash)
    attempts: dict = field(default_factory=dict)
    # hold: [terms, released]
    holds: dict = field(default_factory=dict)

    def held(self, invoice, today):
        """The holds that cover an invoice on a day."""
        return [
            hold for hold, (terms, released) in self.holds.items()
            if not released
            and (not terms["invoices"] or invoice in terms["invoices"])
            and (terms["from"] is None or day(terms["from"]) <= today)
            and (terms["until"] is None or today <= day(terms["until"]))
        ]

    def owed(self, currency, today):
        """What is owed in a currency on a day. What is not issued yet counts from its day; the money that settled it does already."""
        items = [item for item in self.items.values() if item.currency == currency]
        ahead = sum(item.original for item in items if item.issued > today)
        return sum(item.open for item in items) - ahead + sum(rest for own, rest in self.credits.values() if own == currency)

    def balances(self):
        """Currency: (open, unapplied)."""
        sums = defaultdict(lambda: [0, 0])
        for item in self.items.values():
            sums[item.currency][0] += item.open
        for currency, unapplied in self.credits.values():
            sums[currency][1] += unapplied
        return {currency: tuple(both) for currency, both in sums.items() if any(both)}


def day(date):
    return (date["year"], date["month"], date["day"])


def iso(date):
    """As Postgres writes a day; None for none."""
    return date and "%04d-%02d-%02d" % day(date)


class Ledger:
    """Folds accepted commits, in log order; what cannot be is a fault."""

    def __init__(self, schema):
        self.schema = schema
        self.accounts = defaultdict(Account)
        self.faults = []

    def add(self, commit):
        key = (commit.tenant, commit.account)
        events = []
        for event in commit.payload["events"]:
            if (event["type"], event["version"]) not in KNOWN:
                self.faults.append(f"{key} version {commit.version}: event {event['type']} {event['version']} is unknown")
                continue
            body = self.schema.decode(message_of(event["type"]), event["body"])
            events.append((event["type"], body))
            try:
                self.fold(self.accounts[key], event["type"], body)
            except (AssertionError, KeyError) as why:
                self.faults.append(f"{key} version {commit.version}, {event['type']}: {why}")
        return events

    def fold(self, account, kind, body):
        def move(lines, direction, credit):
            """Money that goes to items (1), or comes back from them (-1)."""
            for line in lines:
                item = account.items[(line["invoice_number"], line["instalment"])]
                assert line["amount_minor"] > 0, f"a line of {line['amount_minor']}"
                item.open -= direction * line["amount_minor"]
                credit[1] += direction * line["amount_minor"]
                assert 0 <= item.open <= item.original, f"{line['invoice_number']} has {item.open} of {item.original} open"
                assert item.currency == credit[0], f"{line['invoice_number']} is in another currency"
            assert credit[1] <= 0, "more is applied than was paid"

        if kind == "invoice.issued":
            assert sum(part["amount_minor"] for part in body["instalments"]) == body["total_minor"], "parts are not the whole"
            for part in body["instalments"]:
                name = (body["number"], part["number"])
                assert name not in account.items, f"{name} is there already"
                amount = part["amount_minor"]
                account.items[name] = Item(amount, amount, day(part["due_date"]), body["currency"], day(body["issue_date"]))
        elif kind == "invoice.voided":
            for part in body["instalments"]:
                item = account.items[(body["number"], part["number"])]
                assert item.open == item.original == part["amount_minor"], f"{body['number']} has something applied"
                item.open = item.original = 0
        elif kind == "invoice.credited":
            name = ("credit_note", body["credit_note_number"])
            assert name not in account.credits, f"{name} is there already"
            credit = account.credits[name] = [body["currency"], -body["amount_minor"]]
            move(body["lines"], 1, credit)
        elif kind == "payment.recorded":
            name = ("payment", body["reference"])
            assert name not in account.credits, f"{name} is there already"
            account.credits[name] = [body["currency"], -body["amount_minor"]]
        elif kind == "payment.allocated":
            credit = account.credits[("payment", body["reference"])]
            move(body["lines"], 1, credit)
            if body["allocated_by"] == OLDEST_DUE_FIRST:
                self.oldest_first(account, body, credit)
        elif kind == "credit_note.allocated":
            move(body["lines"], 1, account.credits[("credit_note", body["credit_note_number"])])
        elif kind == "payment.deallocated":
            move(body["lines"], -1, account.credits[("payment", body["reference"])])
        elif kind == "credit_note.deallocated":
            move(body["lines"], -1, account.credits[("credit_note", body["credit_note_number"])])
        elif kind == "credit.refunded":
            source = {1: "payment", 2: "credit_note"}[body["kind"]]
            credit = account.credits[(source, body["document"])]
            credit[1] += body["amount_minor"]
            assert credit[1] <= 0, "more is refunded than was unapplied"
        elif kind == "payment.reversed":
            credit = account.credits[("payment", body["reference"])]
            move(body["lines"], -1, credit)
            assert credit[1] == -body["amount_minor"], f"{-credit[1]} of {body['amount_minor']} came back"
            credit[1] = 0
        elif kind == "reminder.due":
            open_ones = [n for n, status in account.reminders.items() if status in ("due", "deferred", "started")]
            assert not open_ones, f"reminder {open_ones} is open still"
            former = body["retry_of"]
            assert not former or former in account.tasks, f"reminder {former} ({account.reminders.get(former)}) is said again"
            account.reminders[body["reminder"]] = "due"
        elif kind.startswith("contact."):
            self.contact(account, kind.removeprefix("contact."), body)
        elif kind == "hold.placed":
            assert body["hold"] not in account.holds, f"hold {body['hold']} is there already"
            account.holds[body["hold"]] = [body["terms"], False]
        elif kind in ("hold.amended", "hold.released"):
            hold = account.holds[body["hold"]]
            assert not hold[1], f"hold {body['hold']} was released before"
            assert kind == "hold.amended" or body["terms"] == hold[0], f"hold {body['hold']} was released with other terms"
            hold[:] = [body["terms"], kind == "hold.released"]

    @staticmethod
    def oldest_first(account, body, credit):
        taken = [account.items[(line["invoice_number"], line["instalment"])].due for line in body["lines"]]
        open_items = [item.due for item in account.items.values() if item.open > 0 and item.currency == credit[0]]
        if open_items and taken:
            assert min(open_items) >= max(taken), "something older is open still"
        assert not (open_items and credit[1] < 0), "money is left, and so are open items"

    @staticmethod
    def contact(account, status, body):
        reminder, attempt = body["reminder"], body.get("attempt", 0)
        before = account.reminders[reminder]
        key = (reminder, attempt)
        if status == "started":
            assert before in ("due", "deferred"), f"reminder {reminder} is {before}"
            assert key not in account.attempts, f"attempt {key} is started twice"
            for item in body["items"]:
                held = account.held(item["invoice_number"], day(body["day"]))
                assert not held, f"reminder {reminder} lists {item['invoice_number']}, which is on hold by {held}"
                ours = account.items[(item["invoice_number"], item["instalment"])]
                assert ours.issued <= day(body["day"]), f"reminder {reminder} lists {item['invoice_number']} before its issue date"
                owed = account.owed(ours.currency, day(body["day"]))
                assert owed > 0, f"reminder {reminder} lists {item['invoice_number']}, and {owed} {ours.currency} is owed"
            account.attempts[key] = (status, body["stamp"] and body["stamp"]["id"], None)
        elif attempt:
            former, name, _ = account.attempts[key]
            assert former == "started" or (former == "unknown" and status in ("accepted", "rejected")), (
                f"attempt {key} was {former} and is {status}"
            )
            handed = body.get("handed") or {"message_id": name, "sha256": b""}
            assert handed["message_id"] == name, f"attempt {key} was to be {name} and is {handed['message_id']}"
            account.attempts[key] = (status, handed["message_id"], handed["sha256"].hex())
        elif status == "withheld" and before not in ("due", "deferred"):
            # A person is done with a closed one, which stays as it ended.
            assert body["reason"] == "dropped" and reminder in account.tasks, f"reminder {reminder} was {before} and is dropped"
            status = before
        for_a_person = status in ("rejected", "unknown") or body.get("reason") == "no_contact_point"
        if for_a_person and body.get("reason") != "dropped":
            account.tasks.add(reminder)
        else:
            account.tasks.discard(reminder)
        account.reminders[reminder] = status
