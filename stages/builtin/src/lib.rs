//! The built-in stages: one thin file each, on top of the rooms that do the work.

pub mod assess;
mod channels;
pub mod enhance;
pub mod export;
pub mod fuse;
pub mod grow;
pub mod ingest;
pub mod kinds;
pub mod noise;
pub mod predict;
pub mod prepare;
pub mod report;
pub mod score;
mod shards;
pub mod train;
mod trained;
mod unit;

pub use shards::ShardsError;
pub use unit::LengthUnit;

use engine::{Registry, StageError};
use nets::{Accelerator, NoAccelerator};

/// Adds every built-in stage; trainings on a GPU are left to another program.
pub fn register(registry: &mut Registry) {
    register_on::<NoAccelerator>(registry);
}

/// Adds every built-in stage, with the devices of `A` for trainings.
pub fn register_on<A: Accelerator>(registry: &mut Registry) {
    registry.require(|| nets::check_instructions().map_err(StageError::new));
    registry.add::<ingest::folder::Folder>();
    registry.add::<ingest::rater::Rater>();
    registry.add::<ingest::channel::Channel>();
    registry.add::<ingest::jsrt::Jsrt>();
    registry.add::<ingest::riga::Riga>();
    registry.add::<ingest::lidc::Lidc>();
    registry.add::<ingest::phantom_cxr::PhantomCxr>();
    registry.add::<ingest::phantom_dce::PhantomDce>();
    registry.add::<ingest::phantom_fundus::PhantomFundus>();
    prepare::register(registry);
    enhance::register(registry);
    grow::register(registry);
    noise::register(registry);
    fuse::register(registry);
    registry.add::<train::unet::TrainUnet<A>>();
    registry.add::<train::uma::TrainUma<A>>();
    registry.add::<predict::Predict>();
    export::register(registry);
    registry.add::<assess::uma::AssessUma>();
    registry.add::<score::Score>();
    registry.add::<score::raters::ScoreRaters>();
    registry.add::<report::MakeReport>();
}
