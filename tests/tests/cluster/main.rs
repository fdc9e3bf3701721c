//! Real processes: nodes from the command line, programs beside them, and all that may happen to both.

mod boot;
mod data;
mod dev;
mod faults;
mod health;
mod hostile;
mod live;
mod moves;
mod outbox;
mod placement;
mod queries;
mod readers;
mod region;
mod rooms;
mod stops;
mod transfer;
mod versions;
mod watch;
