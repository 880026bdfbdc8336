//! The operations on an address space, one a file.

pub(crate) mod access;
pub(crate) mod advise;
pub(crate) mod base_page;
pub(crate) mod collapse;
pub(crate) mod collapse_object;
pub(crate) mod fault;
pub(crate) mod fault_object;
pub(crate) mod fork;
pub(crate) mod pin;
pub(crate) mod protect;
pub(crate) mod remap;
pub(crate) mod split;
pub(crate) mod unmap;
