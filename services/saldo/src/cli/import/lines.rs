//! The line on which a row begins, as an editor shows it. The CSV reader knows only byte offsets, and counts lines by line feeds
//! alone.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

/// The first byte and the number of each line that has any text, from the last row on.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<VecDeque<(u64, u64)>>>);

impl Lines {
    /// The line of the row that begins at this offset, or behind the line breaks there. Later offsets must follow in order.
    pub fn line_of(&self, offset: u64) -> u64 {
        let mut starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while starts.front().is_some_and(|(start, _)| *start < offset) {
            starts.pop_front();
        }
        starts.front().map_or(0, |(_, line)| *line)
    }
}

/// Passes bytes on and notes where lines begin. A line ends with CR LF, with LF, or with CR alone.
pub struct LineReader<R> {
    inner: R,
    lines: Lines,
    offset: u64,
    line: u64,
    is_empty: bool,
    after_cr: bool,
}

impl<R> LineReader<R> {
    pub fn new(inner: R) -> (Self, Lines) {
        let lines = Lines::default();
        (Self { inner, lines: lines.clone(), offset: 0, line: 1, is_empty: true, after_cr: false }, lines)
    }
}

impl<R: Read> Read for LineReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut starts = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in buffer.iter().take(count) {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.line += 1;
                    self.is_empty = true;
                    self.after_cr = *byte == b'\r';
                }
                _ => {
                    if self.is_empty {
                        starts.push_back((self.offset, self.line));
                    }
                    self.is_empty = false;
                    self.after_cr = false;
                }
            }
            self.offset += 1;
        }
        Ok(count)
    }
}
