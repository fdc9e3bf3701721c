//! What the simulated clients and operators do.

mod client;
mod follow;
mod operator;
mod room;
mod web;

pub(crate) use client::{marker, run as client};
pub(crate) use operator::{SETTING_START, SHARED_SETTING, run as operator};
pub(crate) use web::NODES_APART_MAX;
