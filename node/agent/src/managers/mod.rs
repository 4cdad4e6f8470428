//! Who gets which processors, memory nodes and devices for itself.

mod cpuset;

pub use cpuset::CpuSet;
