//! Results that were lost after their cells had been looked up.

use std::collections::BTreeSet;

use super::{Coordinator, Place};
use crate::{
    error::RunError,
    events::Event,
    resolve::{Unbound, Unit},
    store::Outputs,
};

impl Coordinator<'_> {
    /// Has a cell built once more whose result was lost since it was looked up; the unit that needs it waits.
    pub(super) fn rewind(
        &mut self,
        place: Place,
        unit: Unit,
        unbound: Unbound,
    ) -> Result<(), RunError> {
        let Unbound { producer, blob, error } = unbound;
        if !self.again.contains_key(&producer) {
            let before = self.known[producer].clone().filter(|_| error.is_lost());
            let Some(before) = before.filter(|_| self.lost.insert((producer, blob))) else {
                return Err(error.into());
            };
            let (cell, message) = (self.cell(producer).name.clone(), error.to_string());
            (self.observe)(Event::Lost { cell, message });
            self.outcomes.remove(&producer);
            self.again.insert(producer, before);
            // Its records name the lost file, so they are misses now.
            self.resolvable.insert(producer);
        }
        self.blocked.entry(producer).or_default().push((place, unit));
        Ok(())
    }

    /// Lets go on what waited for a cell that was built once more.
    pub(super) fn rebuilt(&mut self, producer: usize, before: &Outputs) {
        let blocked = self.blocked.remove(&producer).unwrap_or_default();
        let now = self.known[producer].clone().unwrap_or_default();
        let same = before
            .iter()
            .all(|(port, stored)| now.get(port).is_some_and(|now| now.digest == stored.digest));
        if !same {
            // Keys of others were made from what it gave before: the next run makes new ones.
            let cells: BTreeSet<usize> = blocked.iter().map(|(place, _)| place.0).collect();
            for index in cells {
                let cell = self.cell(producer);
                let (cell, stage) = (cell.name.clone(), cell.stage.name());
                self.failed(index, RunError::NotTheSame { cell, stage });
            }
            return;
        }
        // Equal contents may lie in other files.
        for reader in self.readers[producer].clone() {
            let Some(open) = self.open.get_mut(&reader) else { continue };
            match self.resolver.prepare(reader, &self.known) {
                Ok(prepared) => open.stale.prepared = prepared,
                Err(error) => self.failed(reader, error.into()),
            }
        }
        self.ready.extend(blocked);
    }
}
