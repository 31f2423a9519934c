//! Configuration documents: TOML with a place for every value, composition and overrides.

mod document;
mod load;
mod lookup;

pub(crate) use document::toml_key;
pub use document::{Node, Origin, Value};
pub use load::Override;
pub(crate) use load::{Text, load};
pub use lookup::{Roots, project_root};
