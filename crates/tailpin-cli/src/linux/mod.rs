//! What Linux says about itself and this process, for the commands that ask.

pub(crate) mod cgroup;
pub(crate) mod signals;
pub(crate) mod text;
