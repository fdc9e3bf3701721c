//! Both forms, read, printed and refused; and what holds of every query.

mod forms;
mod random;
mod refused;
