//! A real file read by io_uring into registered buffers of an arena, eight reads at a time; one
//! record of each stays.
//!
//! `cargo run --release -p tailpin-arena --example fixed_reads --features io-uring [FILE]`

use std::fs::File;
use std::path::PathBuf;

use io_uring::IoUring;
use tailpin_arena::io_uring::FixedBuffers;
use tailpin_arena::{AllocError, Arena, Buffer, ReadBuffer};

const READ: usize = 1 << 20;
const AT_ONCE: usize = 8;

/// A buffer as large as there is room for between what is kept. The memory is fixed; its pages come
/// back one by one.
fn buffer(arena: &Arena) -> Result<Buffer, AllocError> {
    let mut bytes = READ;
    loop {
        match arena.alloc(bytes) {
            Err(AllocError::OutOfMemory { .. }) if bytes > 4096 => bytes /= 2,
            result => return result,
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path =
        std::env::args_os().nth(1).map_or_else(std::env::current_exe, |path| Ok(PathBuf::from(path)))?;
    let file = File::open(&path)?;
    let len = file.metadata()?.len();

    let mut ring = IoUring::new(AT_ONCE as u32)?;
    let arena = Arena::builder().size(32 << 20).build()?;
    let fixed = FixedBuffers::register(&arena, &ring)?;
    println!("give back while registered? {}", arena.abilities().give_back_4k);

    let mut kept = Vec::new();
    let mut offset = 0;
    while offset < len {
        let mut buffers = Vec::new();
        for i in 0..AT_ONCE as u64 {
            let mut buffer = ReadBuffer::new(buffer(&arena)?);
            let entry = fixed.read(&file, &mut buffer, offset).expect("this arena's");
            offset += buffer.capacity() as u64;
            // SAFETY: the buffer is neither used nor dropped before its completion below.
            unsafe { ring.submission().push(&entry.user_data(i))? };
            buffers.push(buffer);
        }
        ring.submit_and_wait(AT_ONCE)?;
        for completion in ring.completion() {
            let read = usize::try_from(completion.result()).map_err(|_| "a read failed")?;
            buffers[completion.user_data() as usize].advance(read);
        }
        for buffer in buffers {
            let whole = buffer.freeze();
            if whole.len() >= 100 {
                kept.push(whole.slice(..100));
            }
        }
    }
    println!(
        "{len} bytes read, {} records kept, {} bytes with their pages",
        kept.len(),
        arena.stats().in_use()
    );
    drop(kept);
    fixed.unregister().map_err(|(_, error)| error)?;
    println!("after unregistering: {}", arena.release(usize::MAX)?);
    Ok(())
}
