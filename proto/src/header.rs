//! Headers of calls, beside `authorization`.

/// How fresh a read of the control plane must be. Left out: what the asked node knows.
pub const CONSISTENCY_HEADER: &str = "halcyon-consistency";

/// The read shows all that was written, by anybody, before it was called.
pub const LINEARIZABLE: &str = "linearizable";
