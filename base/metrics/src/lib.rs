//! Counters, gauges and histograms that cost an atomic addition each, and the text that Prometheus reads.
//!
//! Not for: deciding what is measured, or serving it.
//!
//! Start at [`Family`], the series of one name told apart by labels, found without a lock and without an
//! allocation once they exist; [`Page`] is what a scrape gets.

#![forbid(unsafe_code)]

mod family;
mod instruments;
mod number;
mod page;
mod table;

pub use family::{Family, Instrument, Metric};
pub use instruments::{Buckets, Counter, Gauge, Histogram};
pub use number::shown;
pub use page::{Kind, Page, Section};
