//! The built-in stages: one thin file each, on top of the rooms that do the work.

pub mod assess;
mod channels;
pub mod enhance;
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

pub use shards::ShardsError;

use engine::Registry;

/// Adds every built-in stage.
pub fn register(registry: &mut Registry) {
    registry.add::<ingest::jsrt::Jsrt>();
    registry.add::<ingest::phantom_cxr::PhantomCxr>();
    registry.add::<ingest::phantom_dce::PhantomDce>();
    prepare::register(registry);
    enhance::register(registry);
    grow::register(registry);
    noise::register(registry);
    fuse::register(registry);
    registry.add::<train::unet::TrainUnet>();
    registry.add::<train::uma::TrainUma>();
    registry.add::<predict::Predict>();
    registry.add::<assess::uma::AssessUma>();
    registry.add::<score::Score>();
    registry.add::<report::MakeReport>();
}
