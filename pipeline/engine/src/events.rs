//! What happens in a run, as values that the command renders.

use crate::{policy::FailureClass, reason::Reason};

/// Something that happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The run has begun.
    Begun {
        /// Its id.
        run: String,
        /// Number of cells in it.
        cells: usize,
    },
    /// A cell's result was found in the store.
    Fresh {
        /// The cell.
        cell: String,
    },
    /// A cell will be built.
    Stale {
        /// The cell.
        cell: String,
        /// Why.
        reasons: Vec<Reason>,
        /// Units to run: shards, or 1.
        units: usize,
    },
    /// A cell that runs per shard has nothing to do, because what it reads has no shards.
    Empty {
        /// The cell.
        cell: String,
    },
    /// A stored file of a cell was lost after the cell was looked up: it is built once more, and what needs it waits.
    Lost {
        /// The cell.
        cell: String,
        /// What is wrong with the file, in one line.
        message: String,
    },
    /// A cell that will be built asks for more graphics processors than the run may use; it gets those that there are.
    FewGpus {
        /// The cell.
        cell: String,
        /// How many it asks for.
        asked: usize,
        /// How many the run may use.
        found: usize,
    },
    /// A unit of a cell has started.
    Started {
        /// The cell.
        cell: String,
        /// The shard.
        shard: Option<String>,
    },
    /// A unit of a cell is being built by another run, whose result is waited for.
    Waiting {
        /// The cell.
        cell: String,
        /// The shard.
        shard: Option<String>,
        /// The other run.
        run: String,
    },
    /// A unit of a cell reports how far it is.
    Progress {
        /// The cell.
        cell: String,
        /// In `[0, 1]`.
        fraction: f64,
        /// What it is doing.
        doing: String,
    },
    /// A unit of a cell failed and is tried again.
    Retrying {
        /// The cell.
        cell: String,
        /// The shard.
        shard: Option<String>,
        /// What kind of failure it was.
        class: FailureClass,
        /// Why, in one line.
        message: String,
        /// Number of tries that have failed.
        tries: u32,
    },
    /// A cell was built.
    Built {
        /// The cell.
        cell: String,
        /// Shards built and shards found in the store, for a stage that runs per shard.
        shards: Option<(usize, usize)>,
        /// Seconds of work, all its units added.
        seconds: f64,
    },
    /// A cell failed.
    Failed {
        /// The cell.
        cell: String,
        /// Why, in one line.
        message: String,
    },
    /// The run was told to stop: nothing new is started.
    Stopping {
        /// Units that are running still.
        running: usize,
    },
}
