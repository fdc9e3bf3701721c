//! Halcyon on real processes, real sockets and real disks.
//!
//! Nothing here looks inside a node: a test boots the `halcyon` binary, talks to it by the command line or by the wire,
//! cuts the links between nodes, kills processes, and looks at files and answers.
//!
//! - [`cluster`]: nodes as processes ([`process`]), the links between them ([`links`]), the command line ([`command`]);
//! - [`load`]: a client made of nothing but the wire; [`program`]: one that uses the Rust client, as apps do;
//! - [`data`]: a data set to import;
//! - [`script`]: text scripts with recorded answers;
//! - [`tidy`]: what the repository promises about itself.

pub mod binary;
pub mod cluster;
pub mod command;
pub mod data;
pub mod http;
pub mod links;
pub mod load;
pub mod ports;
pub mod process;
pub mod program;
pub mod script;
pub mod search;
pub mod tidy;
pub mod wait;
