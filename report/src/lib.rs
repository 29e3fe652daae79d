//! What a bench run leaves behind, and how it is shown.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`run`] | the file of one run: what was measured, where, and with what |
//! | [`compare`] | several runs: medians with their spread, and ratios between systems |
//! | [`targets`] | what speed is aimed at, and how far runs come up to it |
//! | [`page`] | one HTML page, complete in itself, and its plots as SVG files |
//!
//! All of it is pure but for reading and writing files: no Kafka, no network, no clock.

pub mod compare;
pub mod page;
pub mod run;
pub mod targets;
mod text;

pub use compare::Comparison;
pub use page::Page;
pub use run::Run;
