//! The simulated world: time, chance, network and disks, all drawn from one seed.
//!
//! A whole cluster runs on one thread. turmoil gives each host a tokio runtime of its own with a paused clock, and
//! steps them one after another; what the hosts touch beyond timers comes from here:
//!
//! | leak | how it is closed |
//! |---|---|
//! | sockets | turmoil's, behind [`network`] |
//! | files | [`disk`]: in memory, volatile until synced, run in place |
//! | time of day, drift | [`clock`] |
//! | `Env::entropy`, Raft's generators | [`chance`]: a stream for each host |
//! | `std`'s clocks and hash keys, tokio's own choices, TLS | [`interpose`]: libc's symbols, while a simulation runs |
//! | addresses in memory | [`interpose::without_address_randomisation`] |
//!
//! Invariant: everything that a host sends, receives or writes passes [`trace`], so two runs of a seed that do not do
//! the same end with different hashes. A process runs one simulation, on a thread of its own, and leaves by
//! [`interpose::leave`]: hash keys and counters of a thread that had run anything before would differ.

pub mod chance;
pub mod clock;
pub mod disk;
pub mod env;
pub mod interpose;
pub mod machine;
pub mod network;
pub mod trace;
