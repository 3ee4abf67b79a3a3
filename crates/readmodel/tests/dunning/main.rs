//! Reminders, attempts and the days of the ledger in the read models. This binary is its own child process for Postgres (`child`).

mod days;
mod stories;
mod story;
mod tables;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Failure>;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("child") {
        return match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime.block_on(saldo_embedded_postgres::run_child()),
            Err(error) => {
                eprintln!("no tokio runtime: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let tests = vec![
        test("one_batch_tells_the_story", stories::one_batch_tells_the_story),
        test("the_domain_says_the_same", stories::the_domain_says_the_same),
        test("history_is_one_line_each_without_personal_data", stories::history_is_one_line_each_without_personal_data),
        test("rows_do_not_tell_where_the_log_was_cut_into_batches", || tables::run(tables::cut_anywhere)),
        test("bi_says_what_was_sent_and_what_was_not", || tables::run(tables::public_face)),
        test("u2_u13_domain_ageing_open_items_and_ladder_say_the_same_of_a_day", || tables::run(days::one_truth)),
        test("u12_a_later_allocation_moves_no_past_ageing", || {
            tables::run(days::a_later_allocation_moves_no_past_ageing)
        }),
        test("an_older_releases_tables_serve_on_and_a_newers_are_left_alone", || tables::run(tables::formats)),
        test("a_transaction_that_nobody_waits_for_is_not_left_open", || tables::run(tables::cancelled)),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn test(name: &str, body: fn() -> Outcome) -> Trial {
    Trial::test(name, move || body().map_err(|error| error.to_string().into()))
}
