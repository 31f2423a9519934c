//! Events as lines of text.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use engine::{Event, Reason};

use super::Pace;
use crate::{
    console::Label,
    text::{count, duration, reasons},
};

/// At most one line of progress of a cell in this time.
const EVERY: Duration = Duration::from_secs(10);

/// What has been said of the cells that run.
pub(super) struct Narration {
    progress: bool,
    cells: usize,
    ended: usize,
    open: BTreeMap<String, Open>,
}

struct Open {
    reasons: Vec<Reason>,
    units: usize,
    started: usize,
    waiting: bool,
    said: Instant,
    pace: Option<Pace>,
}

impl Narration {
    /// Says how far long cells are.
    pub(super) fn with_progress() -> Self {
        Self { progress: true, cells: 0, ended: 0, open: BTreeMap::new() }
    }

    /// Says only what has ended; the rest is drawn.
    pub(super) fn without_progress() -> Self {
        Self { progress: false, ..Self::with_progress() }
    }

    /// The lines that an event is worth.
    pub(super) fn lines(&mut self, event: &Event, now: Instant) -> Vec<(Label, String)> {
        match event {
            Event::Begun { run, cells } => {
                self.cells = *cells;
                vec![(Label::Run, format!("{run} of {}", count(*cells, "cell")))]
            }
            Event::Fresh { cell } => {
                self.ended += 1;
                // Open when another run has built it meanwhile.
                self.open.remove(cell);
                Vec::new()
            }
            Event::Waiting { cell, run, .. } => self.waiting(cell, run).into_iter().collect(),
            Event::Stopping { running } => {
                let running = count(*running, "unit");
                let text = format!("stopping: {running} at work; Ctrl-C again ends at once");
                vec![(Label::Warning, text)]
            }
            Event::Stale { cell, reasons, units } => {
                let (reasons, units) = (reasons.clone(), *units);
                let open =
                    Open { reasons, units, started: 0, waiting: false, said: now, pace: None };
                self.open.insert(cell.clone(), open);
                Vec::new()
            }
            Event::FewGpus { cell, asked, found } => {
                let asked = count(*asked, "graphics processor");
                let text = format!(
                    "{cell} asks for {asked}, and the run may use {found}: name them with --gpus"
                );
                vec![(Label::Warning, text)]
            }
            Event::Started { cell, .. } => self.started(cell, now),
            Event::Progress { cell, fraction, doing } => {
                self.progress(cell, *fraction, doing, now).into_iter().collect()
            }
            Event::Built { cell, shards, seconds } => {
                self.open.remove(cell);
                self.ended += 1;
                let shards = shards.map_or_else(String::new, |(built, found)| {
                    format!(", {built} of {}", count(built + found, "shard"))
                });
                let place = format!("{}/{}", self.ended, self.cells);
                vec![(Label::Built, format!("{cell} in {}{shards} ({place})", duration(*seconds)))]
            }
            Event::Retrying { cell, shard, class, tries, .. } => {
                let shard = shard.as_ref().map_or_else(String::new, |s| format!(", shard `{s}`"));
                let text =
                    format!("{cell}{shard}: {class}; this was try {tries}, and there is another");
                vec![(Label::Warning, text)]
            }
            Event::Empty { cell } => {
                let text = format!("{cell} has nothing to do: what it reads has no shards");
                vec![(Label::Warning, text)]
            }
            Event::Lost { cell, message } => {
                self.ended = self.ended.saturating_sub(1);
                vec![(Label::Warning, format!("{cell} is built once more: {message}"))]
            }
            Event::Failed { cell, message } => {
                self.open.remove(cell);
                // The message begins with the cell, as every error of one does.
                let text = if message.contains(cell.as_str()) {
                    message.clone()
                } else {
                    format!("{cell}: {message}")
                };
                vec![(Label::Failed, text)]
            }
            _ => Vec::new(),
        }
    }

    /// Says once of a cell that another run is building some of it.
    fn waiting(&mut self, cell: &str, run: &str) -> Option<(Label, String)> {
        let open = self.open.get_mut(cell)?;
        let first = !std::mem::replace(&mut open.waiting, true);
        first.then(|| (Label::Wait, format!("{cell}: run {run} is building it")))
    }

    fn started(&mut self, cell: &str, now: Instant) -> Vec<(Label, String)> {
        let Some(open) = self.open.get_mut(cell) else {
            return Vec::new();
        };
        open.started += 1;
        if !self.progress {
            return Vec::new();
        }
        if open.started == 1 {
            open.said = now;
            return vec![(Label::Start, format!("{cell}: {}", reasons(&open.reasons)))];
        }
        if now.saturating_duration_since(open.said) < EVERY {
            return Vec::new();
        }
        open.said = now;
        vec![(Label::Progress, format!("{cell}: shard {} of {}", open.started, open.units))]
    }

    fn progress(
        &mut self,
        cell: &str,
        fraction: f64,
        doing: &str,
        now: Instant,
    ) -> Option<(Label, String)> {
        let open = self.open.get_mut(cell)?;
        // Of a cell with many shards, their number tells more.
        if open.units > 1 {
            return None;
        }
        let pace = *open.pace.get_or_insert(Pace::new(now, fraction));
        if !self.progress || now.saturating_duration_since(open.said) < EVERY {
            return None;
        }
        open.said = now;
        let left = pace.left(now, fraction);
        let left = left.map_or_else(String::new, |left| format!(", {} left", duration(left)));
        Some((Label::Progress, format!("{cell}: {:.0} %, {doing}{left}", fraction * 100.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: Vec<(Label, String)>) -> Vec<String> {
        lines.into_iter().map(|(label, text)| format!("{}{text}", label.paint(false))).collect()
    }

    #[test]
    fn a_cell_without_its_devices_is_no_secret() {
        let event = Event::FewGpus { cell: "train".into(), asked: 1, found: 0 };
        let said = Narration::without_progress().lines(&event, Instant::now());
        assert_eq!(
            text(said),
            [
                "warning: train asks for 1 graphics processor, and the run may use 0: name them with --gpus"
            ]
        );
    }

    #[test]
    fn a_long_cell_is_heard_of_every_ten_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut narration = Narration::with_progress();
        let mut said = Vec::new();
        let cell = || "train".to_owned();
        let progress = |fraction: f64| Event::Progress {
            cell: cell(),
            fraction,
            doing: format!("epoch {:.0} of 20", fraction * 20.0),
        };
        let events = [
            (0, Event::Begun { run: "r".into(), cells: 2 }),
            (0, Event::Fresh { cell: "cases".into() }),
            (0, Event::Stale { cell: cell(), reasons: vec![Reason::NeverBuilt], units: 1 }),
            (0, Event::Started { cell: cell(), shard: None }),
            (5, progress(0.1)),
            (9, progress(0.2)),
            (15, progress(0.3)),
            (20, progress(0.4)),
            (25, progress(0.5)),
            (50, Event::Built { cell: cell(), shards: None, seconds: 50.0 }),
        ];
        for (seconds, event) in events {
            said.extend(text(narration.lines(&event, at(seconds))));
        }
        assert_eq!(
            said,
            [
                "run    r of 2 cells",
                "start  train: never built",
                "...    train: 30 %, epoch 6 of 20, 35.0 s left",
                "...    train: 50 %, epoch 10 of 20, 25.0 s left",
                "built  train in 50.0 s (2/2)",
            ]
        );
    }
}
