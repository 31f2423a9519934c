//! What ran when: `runs/ID/trace.json` in the format of Chrome's tracing, which Perfetto (ui.perfetto.dev) opens.
//!
//! One row a worker, one bar a unit of work. Bars are added as units end, so that the trace of a killed run is there too: the
//! format allows its list to end without a bracket.

use std::{path::PathBuf, time::Instant};

use serde_json::{Value, json};

use crate::store::Store;

/// Bars that are kept before they are written.
const AT_ONCE: usize = 256;

/// The trace of a run.
pub(crate) struct Trace<'a> {
    store: &'a Store,
    path: PathBuf,
    started: Instant,
    waiting: Vec<Value>,
    /// Whether the list is open already.
    open: bool,
}

/// One unit of work that has ended.
pub(crate) struct Bar<'b> {
    pub(crate) cell: &'b str,
    pub(crate) stage: &'b str,
    pub(crate) shard: Option<&'b str>,
    pub(crate) worker: usize,
    pub(crate) seconds: f64,
    /// How it ended, in a word or two.
    pub(crate) outcome: String,
}

impl<'a> Trace<'a> {
    /// A trace whose time begins now.
    pub(crate) fn start(store: &'a Store, run: &str, experiment: &str) -> Self {
        let path = store.root().join("runs").join(run).join("trace.json");
        let name = json!({ "name": experiment });
        let process = json!({ "ph": "M", "name": "process_name", "pid": 1, "args": name });
        Self { store, path, started: Instant::now(), waiting: vec![process], open: false }
    }

    /// Adds a unit that has just ended.
    pub(crate) fn add(&mut self, bar: &Bar<'_>) {
        let now = self.started.elapsed().as_secs_f64();
        let microseconds = |seconds: f64| (1e6 * seconds).round();
        self.waiting.push(json!({
            "ph": "X",
            "name": bar.cell,
            "cat": bar.stage,
            "pid": 1,
            "tid": bar.worker + 1,
            "ts": microseconds((now - bar.seconds).max(0.0)),
            "dur": microseconds(bar.seconds),
            "args": { "shard": bar.shard, "outcome": bar.outcome },
        }));
        if self.waiting.len() >= AT_ONCE {
            self.write(false);
        }
    }

    /// Adds the run itself and closes the list.
    pub(crate) fn end(mut self, built: usize, fresh: usize) {
        let seconds = self.started.elapsed().as_secs_f64();
        let args = json!({ "built": built, "fresh": fresh });
        self.waiting.push(json!({
            "ph": "X", "name": "run", "cat": "run", "pid": 1, "tid": 0, "ts": 0,
            "dur": (1e6 * seconds).round(), "args": args,
        }));
        self.write(true);
    }

    /// A trace that cannot be written is no reason to stop work.
    fn write(&mut self, last: bool) {
        let mut text = String::new();
        for bar in self.waiting.drain(..) {
            text.push_str(if self.open { ",\n" } else { "[\n" });
            text.push_str(&bar.to_string());
            self.open = true;
        }
        if last {
            text.push_str("\n]\n");
        }
        let _ = self.store.append(&self.path, text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

    use super::*;
    use crate::toy::Toy;

    #[test]
    fn a_trace_is_json_with_a_bar_a_unit() {
        let toy = Toy::new();
        let report = toy.run(&[]);
        let path = toy.path("store/runs").join(report.run).join("trace.json");
        let trace: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let bars: Vec<&Value> = trace.iter().filter(|bar| bar["ph"] == "X").collect();
        // A list, nine echoes, a join, and the run.
        assert_eq!(bars.len(), 12);
        let (first, run) = (bars[0], bars[11]);
        assert_eq!((&first["name"], &first["cat"]), (&json!("words"), &json!("list")));
        assert_eq!(bars[1]["args"]["outcome"], "built");
        let end = |bar: &Value| bar["ts"].as_f64().unwrap() + bar["dur"].as_f64().unwrap();
        assert!(bars.iter().all(|bar| end(bar) <= end(run) + 1.0), "{trace:?}");
    }
}
