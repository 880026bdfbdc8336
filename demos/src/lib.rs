//! What the demos share: what a process holds and spends, arms that run in processes of their own,
//! memory cgroups, and pictures.

pub mod arms;
pub mod cgroup;
pub mod cost;
pub mod picture;
