//! Reminders, attempts and the days of the ledger in the read models.

mod days;
mod stories;
mod story;
mod tables;

use std::process::ExitCode;

use saldo_test_postgres::{Outcome, Test, alone, on_a_database};
use sqlx::PgPool;

fn main() -> ExitCode {
    saldo_test_postgres::main([
        alone("one_batch_tells_the_story", stories::one_batch_tells_the_story),
        alone("the_domain_says_the_same", stories::the_domain_says_the_same),
        alone(
            "history_is_one_line_each_without_personal_data",
            stories::history_is_one_line_each_without_personal_data,
        ),
        test("rows_do_not_tell_where_the_log_was_cut_into_batches", tables::cut_anywhere),
        test("bi_says_what_was_sent_and_what_was_not", tables::public_face),
        test("u2_u13_domain_ageing_open_items_and_ladder_say_the_same_of_a_day", days::one_truth),
        test("u12_a_later_allocation_moves_no_past_ageing", days::a_later_allocation_moves_no_past_ageing),
        test("an_older_releases_tables_serve_on_and_a_newers_are_left_alone", tables::formats),
        test("a_clock_that_nobody_speaks_for_any_more_counts_no_more", tables::clock),
        test("a_transaction_that_nobody_waits_for_is_not_left_open", tables::cancelled),
    ])
}

/// A test with a pool of connections to a database of its own.
fn test<F: Future<Output = Outcome> + 'static>(name: &'static str, body: fn(PgPool) -> F) -> Test {
    on_a_database(name, async move |database| {
        let pool = PgPool::connect(&database.url).await?;
        let outcome = body(pool.clone()).await;
        pool.close().await;
        outcome
    })
}
