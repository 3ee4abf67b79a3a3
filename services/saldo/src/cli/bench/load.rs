//! Load with a fixed number of calls in flight, for a time or for a number of calls.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

use super::Failure;
use crate::terminal::progress;

#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Answers a second.
    pub per_second: u64,
    /// Half were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
}

/// Runs `in_flight` loops for `span`. `ask` gets the number of its loop and the count of its request.
pub async fn drive<F>(in_flight: usize, span: Duration, ask: impl Fn(usize, u64) -> F) -> Result<Figures, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let started = Instant::now();
    let ask = &ask;
    let loops = (0..in_flight).map(|number| async move {
        let mut times = Vec::new();
        let mut count = 0;
        while started.elapsed() < span {
            let asked = Instant::now();
            ask(number, count).await?;
            times.push(asked.elapsed());
            count += 1;
        }
        Ok::<_, Failure>(times)
    });
    let mut times = futures::future::try_join_all(loops).await?.concat();
    let took = started.elapsed();
    times.sort_unstable();
    let at = |hundredths: usize| {
        let index = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    };
    let per_second = (times.len() as u128 * 1_000_000 / took.as_micros().max(1)) as u64;
    Ok(Figures { per_second, p50: at(50), p99: at(99) })
}

/// Calls `ask` once for each number, `in_flight` at once, and shows the progress.
pub async fn each<F>(
    what: &'static str,
    numbers: std::ops::Range<usize>,
    in_flight: usize,
    ask: impl Fn(usize) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let bar = progress::records(what);
    bar.set_length(numbers.len() as u64);
    futures::stream::iter(numbers)
        .map(ask)
        .buffer_unordered(in_flight)
        .try_for_each(|()| {
            bar.inc(1);
            async { Ok(()) }
        })
        .await?;
    bar.finish_and_clear();
    Ok(())
}
