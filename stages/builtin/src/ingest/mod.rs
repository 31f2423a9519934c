//! Cases from outside: images and reference masks, divided into splits and shards.

pub mod channel;
mod files;
mod findings;
pub mod folder;
pub mod jsrt;
pub mod lidc;
pub mod phantom_cxr;
pub mod phantom_dce;
pub mod phantom_fundus;
pub mod rater;
pub mod riga;

use std::num::NonZeroUsize;

use datasets::{
    CaseImage, CaseLabel,
    shard::shard_parts,
    table::{Cell, Kind, Table},
};
use engine::{Out, StageError, outputs};

use crate::{
    kinds::{CaseTable, Images, Labels},
    shards::{refused, write_images_as, write_labels_as, write_table},
};

outputs! {
    /// What every ingesting stage makes.
    pub struct IngestOutputs {
        /// Image shards.
        images: Out<Images>,
        /// Label shards of source `truth`, aligned with the images.
        truth: Out<Labels>,
        /// One row a case.
        cases: Out<CaseTable>,
    }
}

/// Default of `shard_cases`: cases of a shard, in the mean.
pub(crate) fn sixteen() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(15)
}

/// Writes cases and their reference labels as aligned shards, and the table of cases: what every reader ends with.
///
/// `details` are further columns of the table; each case has its cells in its third element.
///
/// # Errors
/// A case that is listed twice or whose labels do not fit its image, a row with another number of cells than columns, and
/// failures to write.
pub fn write_cases(
    outputs: &IngestOutputs,
    cases: &[(CaseImage, Vec<CaseLabel>, Vec<Cell>)],
    details: &[(&str, Kind)],
    shard_cases: NonZeroUsize,
) -> Result<(), StageError> {
    let splits = cases.iter().map(|(image, _, _)| (image.id.as_str(), image.split));
    for part in shard_parts(splits, shard_cases).map_err(refused)? {
        let name = part.file_name();
        let own = || cases.iter().filter(|(image, _, _)| part.cases.contains(&image.id));
        let images: Vec<CaseImage> = own().map(|(image, _, _)| image.clone()).collect();
        let labels: Vec<CaseLabel> = own().flat_map(|(_, labels, _)| labels.clone()).collect();
        write_images_as(&outputs.images, &name, &images)?;
        write_labels_as(&outputs.truth, &name, &labels)?;
    }
    write_rows(outputs, cases, details)
}

fn write_rows(
    outputs: &IngestOutputs,
    cases: &[(CaseImage, Vec<CaseLabel>, Vec<Cell>)],
    details: &[(&str, Kind)],
) -> Result<(), StageError> {
    let fixed = ["case_id", "patient", "dataset", "split"].map(|name| (name, Kind::Text));
    let columns: Vec<_> = fixed.into_iter().chain(details.iter().copied()).collect();
    let mut table = Table::new(&columns);
    for (image, _, cells) in cases {
        let texts =
            [&image.id, &image.patient, &image.dataset].map(|text| Cell::from(text.as_str()));
        let split = Cell::from(image.split.name());
        let row = texts.into_iter().chain([split]).chain(cells.iter().cloned());
        table.push(row.collect()).map_err(refused)?;
    }
    write_table(&outputs.cases, "cases.parquet", &table)
}
