//! Schedules: what runs by itself and when, and firing one by hand.

pub(crate) mod fire;
pub(crate) mod list;
