//! The port through which a script runs commands.

/// What became of a command.
pub enum Called<'h> {
    /// Its reply, in the protocol that was asked for.
    Replied(&'h [u8]),
    /// It runs elsewhere: the script waits until it is brought the reply.
    Elsewhere,
}

/// Who runs a script's commands.
pub trait Host: Send + 'static {
    /// Runs a command; the reply as RESP3 has it, or as RESP2.
    fn call(&mut self, words: &[&[u8]], resp3: bool) -> Called<'_>;

    /// Whether there is such a command.
    fn knows(&self, words: &[&[u8]]) -> bool;

    /// A line for the log, with Redis's level (0: debug, to 3: warning).
    fn log(&mut self, level: u8, line: &str);
}
