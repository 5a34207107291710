//! The two listeners of every run: the metrics file and the terminal.

mod jsonl;
mod terminal;

pub use jsonl::JsonLines;
pub use terminal::Terminal;
