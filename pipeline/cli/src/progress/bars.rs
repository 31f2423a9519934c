//! Bars on a terminal: one for the run, one for each cell that runs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use engine::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Pace;
use crate::text::{clean, duration, shortened};

/// Steps of a bar.
const STEPS: u64 = 1000;
/// Columns for the name of a cell.
const NAME_WIDTH: usize = 40;

/// The bars of a run.
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    cells: BTreeMap<String, CellBar>,
}

struct CellBar {
    bar: ProgressBar,
    units: usize,
    started: usize,
    pace: Option<Pace>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(0));
        total.set_style(style("{bar:30} {pos}/{len} cells, {elapsed}"));
        total.enable_steady_tick(Duration::from_millis(500));
        Self { all, total, cells: BTreeMap::new() }
    }

    /// Prints a line above the bars.
    pub(super) fn print(&self, line: &str) {
        // Talk that cannot be heard is no reason to stop work.
        let _ = self.all.println(line);
    }

    pub(super) fn observe(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Begun { cells, .. } => self.total.set_length(*cells as u64),
            Event::Fresh { cell } => {
                self.total.inc(1);
                self.close(cell);
            }
            Event::Lost { .. } => self.total.dec(1),
            Event::Stale { cell, units, .. } => {
                let bar = ProgressBar::new(STEPS);
                bar.set_style(style("  {prefix} {bar:20} {percent:>3}% {msg}"));
                let name = clean(cell);
                bar.set_prefix(format!("{:NAME_WIDTH$}", shortened(&name, NAME_WIDTH - 1)));
                let open = CellBar { bar, units: *units, started: 0, pace: None };
                self.cells.insert(cell.clone(), open);
            }
            Event::Started { cell, .. } => self.started(cell),
            Event::Progress { cell, fraction, doing } => {
                self.progress(cell, *fraction, doing, now);
            }
            Event::Built { cell, .. } => {
                self.close(cell);
                self.total.inc(1);
            }
            Event::Failed { cell, .. } => self.close(cell),
            _ => {}
        }
    }

    fn started(&mut self, cell: &str) {
        let Some(open) = self.cells.get_mut(cell) else {
            return;
        };
        open.started += 1;
        if open.started == 1 {
            open.bar = self.all.add(open.bar.clone());
            open.bar.tick();
        }
        if open.units > 1 {
            let done = (open.started - 1) as u64 * STEPS / open.units as u64;
            open.bar.set_position(done);
            open.bar.set_message(format!("shard {} of {}", open.started, open.units));
        }
    }

    fn progress(&mut self, cell: &str, fraction: f64, doing: &str, now: Instant) {
        let Some(open) = self.cells.get_mut(cell).filter(|open| open.units == 1) else {
            return;
        };
        let pace = *open.pace.get_or_insert(Pace::new(now, fraction));
        let left = pace.left(now, fraction);
        let left = left.map_or_else(String::new, |left| format!(", {} left", duration(left)));
        open.bar.set_position((fraction.clamp(0.0, 1.0) * STEPS as f64) as u64);
        open.bar.set_message(format!("{}{left}", clean(doing)));
    }

    fn close(&mut self, cell: &str) {
        if let Some(open) = self.cells.remove(cell) {
            open.bar.finish_and_clear();
            self.all.remove(&open.bar);
        }
    }

    pub(super) fn end(&self) {
        self.cells.values().for_each(|open| open.bar.finish_and_clear());
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.expect("the templates of this file are well-formed").progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_finds_its_bar() {
        let mut bars = Bars::new();
        bars.all.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        let now = Instant::now();
        let cell = || "a".to_owned();
        bars.observe(&Event::Begun { run: "r".into(), cells: 3 }, now);
        bars.observe(&Event::Stale { cell: cell(), reasons: Vec::new(), units: 4 }, now);
        bars.observe(&Event::Started { cell: cell(), shard: Some("s".into()) }, now);
        bars.observe(&Event::Started { cell: cell(), shard: Some("t".into()) }, now);
        assert_eq!(bars.cells["a"].bar.position(), STEPS / 4);
        bars.observe(&Event::Built { cell: cell(), shards: None, seconds: 1.0 }, now);
        bars.observe(&Event::Failed { cell: "unheard of".into(), message: String::new() }, now);
        assert_eq!((bars.total.position(), bars.cells.len()), (1, 0));
        bars.end();
    }
}
