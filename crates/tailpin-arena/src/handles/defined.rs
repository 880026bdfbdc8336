//! Bytes that the compiler has to take for initialised.
//!
//! The bytes of an arena come from the system and always are something. To the compiler they can be
//! nothing all the same: `compio`'s traits hand them to safe code as `MaybeUninit`, which may write
//! "uninitialised" into them. That writes nothing, but to read it back as a `u8` would be undefined
//! behaviour. So before they are read as `u8` they pass through here.

use std::ptr::NonNull;

/// Has each of these bytes be some value: what the memory contains. Costs no instruction.
///
/// # Safety
/// The bytes are mapped, and nothing else reads or writes them during the call.
#[inline]
pub(crate) unsafe fn define(bytes: NonNull<[u8]>) {
    #[cfg(any(
        target_arch = "x86",
        target_arch = "x86_64",
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "riscv32",
        target_arch = "riscv64",
        target_arch = "loongarch64"
    ))]
    // SAFETY: the assembly is empty. As it is not said to leave memory alone, the compiler must
    // assume that it writes any values to whatever it is given the address of; those that stand
    // there are such values.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) bytes.cast::<u8>().as_ptr(), options(nostack, preserves_flags));
    }
    #[cfg(not(any(
        target_arch = "x86",
        target_arch = "x86_64",
        target_arch = "arm",
        target_arch = "aarch64",
        target_arch = "riscv32",
        target_arch = "riscv64",
        target_arch = "loongarch64"
    )))]
    // SAFETY: advice of no effect, about memory of the caller's. A call of foreign code: as with
    // the assembly above, the compiler must assume that it writes.
    unsafe {
        libc::posix_madvise(bytes.cast::<u8>().as_ptr().cast(), 0, libc::POSIX_MADV_NORMAL);
    }
}
