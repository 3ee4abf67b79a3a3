"""Judges a run of faults: reads the topic from its beginning with a parser, a rule and a fold of its own, and compares what
it says with what clients were told, what Postgres holds and what the mail server was given. Exit code 1 on any violation.

    check.py --run DIR --proto PROTO --topic TOPIC --brokers HOST:PORT --database URL --keys FILE
"""

import argparse
import json
import sys
from pathlib import Path

import chains
import judge
import proto

SHOWN = 20


def read_topic(brokers, topic):
    """Every record, by partition, in log order."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": "checker",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": False,
    })
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        for number in partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
            consumer.assign([TopicPartition(topic, number, 0)])
            at = 0
            while at < end:
                # It waits until it has as many as it is asked for.
                batch = consumer.consume(min(1_000, end - at), timeout=20)
                if not batch:
                    raise RuntimeError(f"{topic}/{number} stands still at {at} of {end}")
                for message in batch:
                    if message.error():
                        raise RuntimeError(f"{topic}/{number}: {message.error()}")
                    at = message.offset() + 1
                    yield number, message.offset(), message.key(), message.value()
    finally:
        consumer.close()


def read_database(url):
    """What the read models hold."""
    import psycopg

    with psycopg.connect(url) as connection:
        rows = lambda query: connection.execute(query).fetchall()
        ((build,),) = rows("SELECT number FROM saldo.live")
        sums = rows(
            "SELECT tenant, account, kind, document, instalment, currency::text, sum(amount_minor)::bigint"
            " FROM bi.ledger GROUP BY 1, 2, 3, 4, 5, 6"
        )
        stored = {
            "heads": {key: (bytes(hash), version) for key, hash, version in rows(f"SELECT key, hash, version FROM rm_{build}.heads")},
            "items": {(t, a, d, i): (c, s) for t, a, k, d, i, c, s in sums if k == "invoice"},
            "credits": {(t, a, k, d): (c, s) for t, a, k, d, _, c, s in sums if k != "invoice"},
            "open_items": {
                tuple(row[:4]): tuple(row[4:])
                for row in rows("SELECT tenant, account, document, instalment, currency::text, open_minor FROM bi.open_items")
            },
            "aging": {
                (t, a, c): (balance - unapplied, unapplied)
                for t, a, c, balance, unapplied in rows("SELECT tenant, account, currency::text, balance, unapplied FROM bi.aging")
            },
            "reminders": {(t, a, r): s for t, a, r, s in rows("SELECT tenant, account, reminder, status FROM bi.reminders")},
            "attempts": {
                (t, a, r, n): s
                for t, a, r, n, s in rows(
                    "SELECT tenant, account, reminder, attempt, status FROM bi.contact_attempts WHERE attempt > 0"
                )
            },
            "holds": {
                (t, a, h): (invoices, start, end, reason, released)
                for t, a, h, invoices, start, end, reason, released in rows(
                    "SELECT tenant, account, hold, invoices, from_date::text, until_date::text, reason, released_on IS NOT NULL"
                    " FROM bi.holds"
                )
            },
            "parked": rows("SELECT tenant, account FROM bi.parked"),
        }
    return stored


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def median(numbers):
    return sorted(numbers)[len(numbers) // 2]


def report(judgement, plan, done, troubles, links):
    """For people."""
    text = ["# Faults", "", f"Seed {plan['seed']}, {plan['lasted_s']} s, {plan['clients']} clients at once.", ""]
    text += ["| fault | times | recovered: median | slowest | tries without an answer meanwhile |", "|---|---|---|---|---|"]
    for kind, faults in done.items():
        if "recovered_ms" in faults[0]:
            spans = [fault["recovered_ms"] for fault in faults]
            missed = sum(fault["tries_without_answer"] for fault in faults)
            text.append(f"| {kind} | {len(faults)} | {median(spans) / 1000:.1f} s | {max(spans) / 1000:.1f} s | {missed} |")
        else:
            text.append(f"| {kind} | {len(faults)} | | | |")
    by_target = {}
    for fault in done["kill"] + done["stop"]:
        by_target.setdefault(fault["target"], []).append(fault["kind"])
    text += ["", "| process | killed | stopped |", "|---|---|---|"]
    text += [f"| {name} | {kinds.count('kill')} | {kinds.count('stop')} |" for name, kinds in sorted(by_target.items())]
    text += ["", "| counted | |", "|---|---|"]
    text += [f"| {name} | {count} |" for name, count in judgement.counts.items()]
    text += [f"| tries that ended {code} | {count} |" for code, count in troubles.most_common()]
    for effect in ("connections", "reset", "refused", "held", "late", "throttled"):
        unit = "connections" if effect in ("connections", "reset", "refused") else "bytes"
        text.append(f"| proxies: {unit} {effect if effect != 'connections' else 'carried'} | {sum(link[effect] for link in links)} |")
    text.append("")
    if judgement.passed:
        text.append("No violation: nothing lost, doubled, contradicted or stuck.")
    for rule, found in judgement.violations.items():
        text += [f"**VIOLATED: {rule}** ({len(found)})", ""] + [f"- {one}" for one in found[:SHOWN]] + [""]
    return "\n".join(text) + "\n"


def main():
    arguments = argparse.ArgumentParser()
    for name in ("run", "proto", "topic", "brokers", "database", "keys"):
        arguments.add_argument(f"--{name}", required=True)
    given = arguments.parse_args()
    run = Path(given.run)
    schema = proto.Schema(given.proto)
    judgement = judge.Judgement()
    log = chains.judge(read_topic(given.brokers, given.topic), schema, chains.read_keys(Path(given.keys)))
    ledger, places = judge.fold(judgement, log, schema)
    troubles = judge.clients(judgement, lines(run / "clients.jsonl"), places)
    judge.read_models(judgement, log, ledger, read_database(given.database))
    judge.mails(judgement, ledger, lines(run / "mails.jsonl"))
    plan, links = json.loads((run / "plan.json").read_text()), lines(run / "links.jsonl")
    done = judge.faults(judgement, plan, lines(run / "faults.jsonl"), links, lines(run / "ends.jsonl"), log)
    text = report(judgement, plan, done, troubles, links)
    (run / "report.md").write_text(text)
    summary = {
        "plan": plan,
        "passed": judgement.passed,
        "counts": judgement.counts,
        "void": log.void,
        "violations": judgement.violations,
        "faults": {kind: len(faults) for kind, faults in done.items()},
    }
    (run / "report.json").write_text(json.dumps(summary, indent=2, default=str))
    print(text)
    return 0 if judgement.passed else 1


if __name__ == "__main__":
    sys.exit(main())
