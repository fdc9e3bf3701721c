//! Real processes: three nodes from the command line, and all that may happen to them.

mod boot;
mod data;
mod dev;
mod faults;
mod hostile;
mod placement;
