//! A run as it goes: bars on a terminal, a line now and then elsewhere.

mod bars;
mod narration;

use std::time::Instant;

use engine::Event;

use crate::console::Console;

use bars::Bars;
use narration::Narration;

/// Shows the events of one run.
pub(crate) struct Progress<'c, 'w> {
    console: &'c mut Console<'w>,
    /// Id of the run, once it has begun.
    pub(crate) run: Option<String>,
    style: Style,
}

enum Style {
    Quiet,
    Lines(Narration),
    Bars(Narration, Box<Bars>),
}

impl<'c, 'w> Progress<'c, 'w> {
    /// Bars where they can be drawn, unless nothing is wanted.
    pub(crate) fn new(console: &'c mut Console<'w>, quiet: bool) -> Self {
        let style = match (quiet, console.terminal) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Bars(Narration::without_progress(), Box::new(Bars::new())),
            (false, false) => Style::Lines(Narration::with_progress()),
        };
        Self { console, run: None, style }
    }

    /// Takes note of an event.
    pub(crate) fn observe(&mut self, event: &Event) {
        let now = Instant::now();
        if let Event::Begun { run, .. } = event {
            self.run = Some(run.clone());
        }
        match &mut self.style {
            Style::Quiet => {}
            Style::Lines(narration) => {
                for (label, text) in narration.lines(event, now) {
                    self.console.say(label, &text);
                }
            }
            Style::Bars(narration, bars) => {
                for (label, text) in narration.lines(event, now) {
                    let text = crate::text::clean(&text).into_owned();
                    bars.print(&format!("{}{text}", label.paint(self.console.colour)));
                }
                bars.observe(event, now);
            }
        }
    }

    /// Takes the bars away.
    pub(crate) fn end(self) -> Option<String> {
        if let Style::Bars(_, bars) = self.style {
            bars.end();
        }
        self.run
    }
}

/// How fast something goes, from two looks at it.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    /// What was done already at that time: a resumed training does not begin at 0.
    from: f64,
}

impl Pace {
    fn new(since: Instant, from: f64) -> Self {
        Self { since, from }
    }

    /// Seconds until the fraction is 1, once something has been done.
    fn left(&self, now: Instant, fraction: f64) -> Option<f64> {
        let done = fraction - self.from;
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        (done > 0.0 && seconds > 0.0).then(|| seconds / done * (1.0 - fraction).max(0.0))
    }
}
