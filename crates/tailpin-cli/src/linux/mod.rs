//! What Linux says about itself and this process, for the commands that ask.

pub(crate) mod cgroup;
#[cfg(feature = "bench")]
pub(crate) mod ending;
pub(crate) mod signals;
pub(crate) mod text;
