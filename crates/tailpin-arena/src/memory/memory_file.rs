//! Files of memory: sized once, then sealed, so that no process that has one can make it shorter
//! under a mapping. To touch a mapped page behind the end of its file is a SIGBUS.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The size stands, and so do these seals: one that forbids writing would take the memory from its
/// users.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Why there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileError {
    /// The process may not make a file this long (`ulimit -f`, `RLIMIT_FSIZE`).
    Limit {
        /// The most it may have, in bytes.
        limit: u64,
    },
    /// Another answer of the kernel's.
    System { doing: &'static str, errno: Errno },
}

/// A file of `bytes` zeros, none of which takes memory yet.
pub(crate) fn create(name: &str, bytes: u64) -> Result<OwnedFd, FileError> {
    let failed = |doing| move |errno| FileError::System { doing, errno };
    // Looked at first: to a size above the limit the kernel answers with SIGXFSZ, which ends the
    // process. A limit that another thread lowers between this look and the next lines is not seen.
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| bytes > *limit) {
        return Err(FileError::Limit { limit });
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(name, flags).map_err(failed("make a memory file"))?;
    ftruncate(&file, bytes).map_err(failed("size the memory file"))?;
    fcntl_add_seals(&file, SEALS).map_err(failed("seal the memory file"))?;
    Ok(file)
}

/// Whether the file's size stands for good.
pub(crate) fn is_sealed(file: &OwnedFd) -> bool {
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_size_of_a_file_stands() {
        let file = create("test", 3 << 20).unwrap();
        assert!(is_sealed(&file));
        assert!(fcntl_add_seals(&file, SealFlags::WRITE).is_err(), "nor can writing be forbidden");
        let file = File::from(file);
        assert!(file.set_len(0).is_err() && file.set_len(4 << 20).is_err());
        assert_eq!(file.metadata().unwrap().len(), 3 << 20);
        let other = memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(!is_sealed(&other));
    }

    #[test]
    fn sizes_that_no_file_has_are_errors() {
        for bytes in [1 << 63, u64::MAX] {
            assert!(matches!(create("test", bytes), Err(FileError::System { errno: Errno::INVAL, .. })));
        }
    }
}
