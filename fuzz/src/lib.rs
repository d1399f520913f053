//! The fuzz targets: a function each, shared with the tests that replay the corpus.

pub mod image;
pub mod protocol;
pub mod state;
pub mod text;
