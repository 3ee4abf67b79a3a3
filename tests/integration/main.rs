//! Saldo from outside, against real servers: an Apache Kafka and a Postgres that the harness starts.

mod access;
mod adapters;
mod analysts;
mod apart;
mod bad_input;
mod belonging;
mod catalog;
mod collector;
mod commands;
mod conformance;
mod crash_points;
mod crashes;
mod deployment;
mod env;
mod faults;
mod files;
mod forged;
mod holds;
mod importing;
mod kafka;
mod mailbox;
mod overload;
mod people;
mod process;
mod readmodels;
mod route;
mod running;
mod talking;
mod telemetry;
mod the_log;
mod tls;
mod visible;
mod wrong_clock;

use std::{process::ExitCode, sync::Arc};

use env::Env;
use libtest_mimic::{Arguments, Failed, Trial};

/// The error of a test.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of a test.
pub type Outcome = Result<(), Failure>;

/// The servers and programs that a test cannot run without.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Postgres,
    Kafka,
    OwnKafka,
    Python,
    OwnKafkaAndPython,
    Mailpit,
    Collector,
    KafkaAndCollector,
    SharedData,
    KafkaAndSharedData,
}

/// One line a test: its sentence, what it needs, and the function.
macro_rules! tests {
    ($(($name:literal, $needs:ident, $test:path)),* $(,)?) => {
        vec![$(trial($name, Needs::$needs, |env| env.clone().runtime().block_on($test(env)))),*]
    };
}

fn main() -> ExitCode {
    // The same binary stands in for `saldo`, so that one build serves both.
    if std::env::var_os(process::AS_SALDO).is_some() {
        return saldo::main_from_args();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let mut tests = tests![
        ("embedded log: conformance", Postgres, conformance::embedded),
        ("embedded log: its connections are cut and it goes on", Postgres, adapters::embedded_cut_off),
        ("embedded log: cut and regrown, it is refused", Postgres, adapters::embedded_regrown),
        ("kafka: conformance", Kafka, conformance::kafka),
        ("kafka: the broker is killed and comes back", OwnKafka, adapters::kafka_broker_killed),
        ("kafka: cut and regrown, it is refused", OwnKafka, adapters::kafka_regrown),
        ("o4: kafka: a broker that comes back with an older log is noticed", OwnKafka, adapters::o4_kafka_older_log),
        ("kafka: records were deleted, and the error says where", Kafka, adapters::kafka_deleted),
        ("kafka: an unsafe topic is refused", Kafka, adapters::kafka_unsafe),
        (
            "kafka: o13 more replicas than brokers are refused by their setting",
            Kafka,
            adapters::o13_more_replicas_than_brokers
        ),
        ("kafka: a topic made anew is another log", Kafka, adapters::kafka_other_log),
        (
            "commands: invoices, payments and reversals are answered and read back",
            Postgres,
            commands::life_of_an_account
        ),
        ("commands: a request id gives the first answer again", Postgres, commands::request_ids),
        ("commands: an account is amended, and time passes without effect", Postgres, commands::amended_and_advanced),
        ("commands: a full queue says when to come back", Postgres, commands::full_queue),
        ("overload: one caller never stops the others", Postgres, overload::one_caller),
        ("overload: a crowd is answered early, and another tenant finds a place", Postgres, overload::crowd),
        (
            "overload: requests that never end hold a share of the room, and not for long",
            Collector,
            overload::unfinished
        ),
        (
            "clock: an instance with a wrong one stops deciding, says so, and goes on when it is right",
            Postgres,
            wrong_clock::stops_and_goes_on
        ),
        ("commands: two instances racing on the same accounts agree with the log", Kafka, commands::two_instances),
        ("commands: an event of a newer release parks the account alone", Postgres, commands::newer_event),
        (
            "forged: a payment by an outsider who knows the head moves no balance, and is counted",
            Kafka,
            forged::payment_by_an_outsider
        ),
        ("forged: a key that was added is used without a restart", Postgres, forged::rotated_key),
        (
            "forged: markers of foreign transactions hold up nobody, and are counted",
            Kafka,
            forged::markers_of_transactions
        ),
        ("commands: credit notes, voids and later allocations", Postgres, commands::corrections),
        ("running: served as configured, and refused without keys or topic", Kafka, running::serve),
        ("running: a file, the environment, flags; faults by their key", Postgres, running::configuration),
        ("running: health is open, reflection is not", Postgres, running::health_and_reflection),
        ("running: dev names its Postgres and stops without a warning", Postgres, running::dev),
        (
            "running: the three things that dev shows work, and work again after a restart",
            Postgres,
            running::three_things
        ),
        ("running: a tool without a log says so, and makes none", Postgres, running::nothing_configured),
        ("running: an account replayed on both axes", Postgres, running::replay),
        ("running: a log whose keys are elsewhere is left alone", Postgres, running::keys_elsewhere),
        ("running: odd questions are the caller's fault", Postgres, running::odd_questions),
        ("running: who stops reading is no error", Postgres, running::closed_pipe),
        ("running: a policy's folder is checked", Postgres, running::policy),
        ("running: a draft policy previewed on an account", Postgres, running::preview),
        ("apart: every service a process, several of each, one of each killed", Kafka, apart::services),
        ("apart: started before its servers, a service waits", Kafka, apart::waiting),
        (
            "visible: o2 a projector stopped inside a transaction gives way within seconds",
            Postgres,
            visible::o2_stopped_inside_a_transaction
        ),
        (
            "visible: o2 a scheduler that is stopped with its lock gives way within seconds",
            Postgres,
            visible::o2_stopped_scheduler
        ),
        (
            "visible: o7 and o10 a process is alive before it is ready, and says all in one format",
            Postgres,
            visible::o7_and_o10_from_the_first_line_on
        ),
        (
            "visible: o10 a Kafka outage is a line at its beginning and one at its end",
            OwnKafka,
            visible::o10_a_kafka_outage_is_two_lines
        ),
        ("o1: a key store serves its own log alone, and a log has one", Postgres, belonging::o1_whose_key_store),
        (
            "o1: no key store is made while the catalog cannot name it",
            Postgres,
            belonging::o1_whose_key_store_at_an_older_format
        ),
        (
            "o1: a key store older than the log is refused until a person decides",
            Postgres,
            belonging::o1_older_key_store
        ),
        (
            "o1: a key store that vanishes stops its service before the next append",
            Postgres,
            belonging::o1_vanished_key_store
        ),
        (
            "o4: an older log stops every process, and nothing is sent until it is released",
            Postgres,
            belonging::o4_older_log
        ),
        ("o6: a database or catalog of another log is refused", Postgres, belonging::o6_whose_database),
        ("o8: a damaged local store is set aside and read anew", Postgres, belonging::o8_damaged_store),
        ("tls: gRPC, by who certifies the server, for how long and for which name", Postgres, tls::served),
        ("tls: o13 gRPC lets in whom its authority certifies, and health says who is not", Postgres, tls::o13_mutual),
        ("tls: Postgres, by who certifies it, for how long and for which name", Postgres, tls::postgres),
        ("people: an account is opened, looked at and amended", Postgres, people::account),
        ("people: an invoice issued ahead is owed and open from its issue date on", Postgres, people::issued_ahead),
        ("people: a payment is recorded, applied, shown and taken back", Postgres, people::payment),
        (
            "people: invoices and credit notes are issued, applied, taken back and paid out",
            Postgres,
            people::credit_note
        ),
        ("people: what happens by itself is told, and holds of the past are", Postgres, people::told),
        ("people: an invoice shows what was applied to it and who was told of it", Postgres, people::invoice),
        ("holds: what is on hold is not chased, and the history says why", Postgres, holds::whole_life),
        ("access: what is one tenant's is not there for another", Postgres, access::another_tenant),
        (
            "catalog: what an older release cannot read is refused until the format is raised",
            Postgres,
            catalog::format_gate
        ),
        ("catalog: u13 a creditor's day, for ladder, ageing and bi under one clock", Postgres, catalog::u13_todays_day),
        ("access: every rpc by its declaration, and none without a token", Postgres, access::declared),
        ("access: a reader's token shows everything and changes nothing", Postgres, access::a_reader),
        ("bad input: a mistyped account id makes no key", Postgres, bad_input::mistyped_accounts),
        ("bad input: each gets a clear error and changes nothing", Postgres, bad_input::requests),
        ("bad input: a CSV of every kind of trouble", Postgres, bad_input::csv),
        ("read models: every column of bi is described", Postgres, readmodels::comments),
        ("read models: a past day stays as it was known", Postgres, readmodels::both_axes),
        ("read models: a rebuild equals the live ones row by row", Postgres, readmodels::rebuild),
        ("read models: a rebuild that was interrupted and killed goes on", Postgres, readmodels::rebuild_resumed),
        ("read models: a rebuild that finds other rows does not swap", Postgres, readmodels::rebuild_different),
        ("read models: a rebuild while commands go on", Postgres, readmodels::rebuild_under_load),
        ("read models: a rebuild sends nothing and records nothing", Postgres, readmodels::rebuild_is_silent),
        ("read models: a row that was changed is found", Postgres, readmodels::tampered),
        ("read models: a name that was changed is found and not repeated", Postgres, readmodels::tampered_name),
        ("read models: the analysts' role reads bi and nothing personal", Postgres, readmodels::role),
        (
            "analysts: a creditor's analyst sees that creditor's rows alone, however it asks",
            Postgres,
            analysts::one_tenant
        ),
        ("analysts: they can neither write nor stop anything", Postgres, analysts::nothing_else),
        (
            "talking: from a due date to a message in a mailbox, and the history knows it all",
            Postgres,
            talking::mailbox
        ),
        ("talking: mails as Mailpit reads them", Mailpit, talking::mailpit),
        ("talking: a mail server that refuses, puts off and falls silent", Postgres, talking::moods),
        (
            "route: u5 a server that is down costs no step, and nothing is recorded meanwhile",
            Postgres,
            route::server_down
        ),
        ("route: u5 everything goes out when the server comes back", Mailpit, route::mailpit_comes_late),
        ("route: u14 what reached nobody is said again when an address can help", Postgres, route::addresses),
        ("route: o3 a process that is killed leaves two messages a connection in doubt", Postgres, route::killed),
        ("route: o3 unknown outcomes are settled in bulk", Postgres, route::in_bulk),
        ("talking: what is published is checked whole and published once", Postgres, talking::publishing),
        ("talking: two instances share the work and nobody hears anything twice", Kafka, talking::two_instances),
        ("telemetry: every alarm is explained on the operator's page", Postgres, telemetry::runbooks),
        ("telemetry: from a call to a mail, as a collector sees it", KafkaAndCollector, telemetry::traces_and_metrics),
        ("telemetry: a collector that is not there holds up nothing", Postgres, telemetry::without_collector),
        ("crashes: killed at every step of an attempt", Postgres, crash_points::every_point),
        ("import: the receivables sample, to the cent, three ways", SharedData, importing::receivables),
        (
            "import: what an invoice has no room for stays unapplied, and the report says so",
            Postgres,
            files::u3_money_that_does_not_fit_stays_unapplied
        ),
        (
            "import: a dry run foresees what stays unapplied",
            Postgres,
            files::u3_a_dry_run_foresees_what_stays_unapplied
        ),
        (
            "import: the file alone decides, however many accounts are in flight",
            Postgres,
            files::u3_u4_the_file_alone_decides
        ),
        ("import: equal rows without an id are counted", Postgres, files::u7_equal_rows_are_counted),
        (
            "import: a corrected row that equals an accepted one is not lost",
            Postgres,
            files::u7_a_corrected_row_that_equals_an_accepted_one_is_not_lost
        ),
        ("import: rejected rows are corrected and imported again", Postgres, files::rejected_rows_come_back),
        ("import: instalments and credit notes", Postgres, files::instalments_and_credit_notes),
        ("import: a dry run says what the import then does", Postgres, files::dry_run),
        ("crashes: the importer is killed and run again", SharedData, crashes::importer),
        ("crashes: killed again and again during an import, embedded", SharedData, crashes::embedded),
        ("crashes: killed again and again during an import, Kafka", KafkaAndSharedData, crashes::kafka),
        ("faults: the checker finds what is wrong", Python, faults::planted),
        ("faults: a short run", OwnKafkaAndPython, faults::short_run),
    ];
    if faults::long_run_is_asked_for() {
        tests.extend(tests![("faults: a long run", OwnKafkaAndPython, faults::long_run)]);
    }
    #[cfg(feature = "kafka-tls")]
    tests.extend(tests![
        ("tls: Kafka, by who certifies whom, replaced while it runs", OwnKafka, tls::kafka),
        ("tls: Kafka, by how long a broker's certificate is good", Postgres, tls::time),
    ]);
    let conclusion = libtest_mimic::run(&arguments, tests);
    env::shut_down();
    conclusion.exit_code()
}

fn trial(name: &str, needs: Needs, test: impl FnOnce(Arc<Env>) -> Outcome + Send + 'static) -> Trial {
    let missing = match needs {
        Needs::Postgres => None,
        Needs::Kafka => kafka::missing(),
        Needs::OwnKafka => kafka::own_missing(),
        Needs::Python => faults::missing(),
        Needs::OwnKafkaAndPython => kafka::own_missing().or_else(faults::missing),
        Needs::Mailpit => mailbox::missing(),
        Needs::Collector => collector::missing(),
        Needs::KafkaAndCollector => kafka::missing().or_else(collector::missing),
        Needs::SharedData => env::shared_data_missing(),
        Needs::KafkaAndSharedData => kafka::missing().or_else(env::shared_data_missing),
    };
    let trial = Trial::test(name, move || test(Env::get()).map_err(|error| Failed::from(error.to_string())));
    match missing {
        None => trial,
        Some(reason) => trial.with_ignored_flag(true).with_kind(reason),
    }
}
