//! The two streams of the command: data that a program may read, and talk.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use crate::{
    error::{CliError, Exit},
    hint,
    text::clean,
};

/// What a line of talk is about: the word in front of it, coloured where that can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Built,
    CausedBy,
    Error,
    Failed,
    Hint,
    Progress,
    Run,
    Start,
    Wait,
    Warning,
}

impl Label {
    /// The word.
    fn word(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::CausedBy => "caused by:",
            Self::Error => "error:",
            Self::Failed => "failed",
            Self::Hint => "hint:",
            Self::Progress => "...",
            Self::Run => "run",
            Self::Start => "start",
            Self::Wait => "wait",
            Self::Warning => "warning:",
        }
    }

    /// ANSI code of its colour.
    fn colour(self) -> &'static str {
        match self {
            Self::Built => "32",
            Self::Error | Self::Failed => "1;31",
            Self::CausedBy | Self::Warning => "33",
            Self::Hint | Self::Run => "36",
            Self::Progress | Self::Start | Self::Wait => "2",
        }
    }

    /// Whether lines with this word stand in columns below each other.
    fn is_column(self) -> bool {
        !matches!(self, Self::CausedBy | Self::Error | Self::Hint | Self::Warning)
    }

    /// The word as it stands in front of a line.
    pub(crate) fn paint(self, colour: bool) -> String {
        let word = self.word();
        let padding = " ".repeat(if self.is_column() { 7 - word.len() } else { 1 });
        if colour {
            format!("\u{1b}[{}m{word}\u{1b}[0m{padding}", self.colour())
        } else {
            format!("{word}{padding}")
        }
    }
}

/// Where the command writes.
pub(crate) struct Console<'a> {
    data: Box<dyn Write + 'a>,
    talk: Box<dyn Write + 'a>,
    /// Whether talk is coloured.
    pub(crate) colour: bool,
    /// Whether talk goes to a terminal, on which lines can be drawn again.
    pub(crate) terminal: bool,
}

impl Console<'static> {
    /// The streams of this process.
    pub(crate) fn of_process() -> Self {
        let terminal = io::stderr().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            data: Box::new(BufWriter::new(io::stdout())),
            talk: Box::new(io::stderr()),
            colour: terminal && !plain,
            terminal,
        }
    }
}

impl<'a> Console<'a> {
    /// A console that writes elsewhere, without colour.
    #[cfg(test)]
    pub(crate) fn plain(data: impl Write + 'a, talk: impl Write + 'a) -> Self {
        Self { data: Box::new(data), talk: Box::new(talk), colour: false, terminal: false }
    }

    /// Writes a line of data.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), CliError> {
        writeln!(self.data, "{}", clean(text.as_ref())).map_err(CliError::output)
    }

    /// Writes lines of data.
    pub(crate) fn lines(&mut self, text: &str) -> Result<(), CliError> {
        text.lines().try_for_each(|line| self.line(line))
    }

    /// Writes a value as JSON on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.data, value)
            .map_err(|error| CliError::output(error.into()))?;
        writeln!(self.data).map_err(CliError::output)
    }

    /// Writes a value as indented JSON.
    pub(crate) fn json_pretty(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.data, value)
            .map_err(|error| CliError::output(error.into()))?;
        writeln!(self.data).map_err(CliError::output)
    }

    /// The stream of data itself, for text that others make.
    pub(crate) fn data(&mut self) -> &mut dyn Write {
        &mut self.data
    }

    /// Says something. Talk that nobody can hear is no reason to stop work, so a closed stream is not an error.
    pub(crate) fn say(&mut self, label: Label, text: &str) {
        let _ = writeln!(self.talk, "{}{}", label.paint(self.colour), clean(text));
    }

    /// Says something that needs no word in front.
    pub(crate) fn remark(&mut self, text: &str) {
        let _ = writeln!(self.talk, "{}", clean(text));
    }

    /// Makes sure that all data has been written.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.data.flush().map_err(CliError::output)
    }

    /// Reports an error: what, its causes and what to do.
    pub(crate) fn fail(&mut self, error: &CliError) -> Exit {
        let _ = self.data.flush();
        for failure in error.failures() {
            let chain = hint::chain(failure);
            for (i, text) in chain.messages.iter().enumerate() {
                self.say(if i == 0 { Label::Error } else { Label::CausedBy }, text);
            }
            if let Some(hint) = chain.hint {
                self.say(Label::Hint, &hint);
            }
        }
        error.exit()
    }

    /// Prints help to the one and usage errors to the other stream.
    pub(crate) fn usage(&mut self, usage: &clap::Error) -> Exit {
        let text = usage.render();
        if usage.use_stderr() {
            let shown = if self.colour { text.ansi().to_string() } else { text.to_string() };
            let _ = write!(self.talk, "{shown}");
            Exit::BadInput
        } else {
            let _ = write!(self.data, "{text}");
            let _ = self.data.flush();
            Exit::Done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_columns_without_colour() {
        assert_eq!(Label::Built.paint(false), "built  ");
        assert_eq!(Label::Error.paint(false), "error: ");
        assert_eq!(Label::Failed.paint(true), "\u{1b}[1;31mfailed\u{1b}[0m ");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let (mut data, mut talk) = (Vec::new(), Vec::new());
        let mut console = Console::plain(&mut data, &mut talk);
        console.say(Label::Warning, "a\u{1b}[2Jb");
        console.remark("two\nlines");
        drop(console);
        assert_eq!(String::from_utf8_lossy(&talk), "warning: a\u{fffd}[2Jb\ntwo\u{fffd}lines\n");
    }
}
