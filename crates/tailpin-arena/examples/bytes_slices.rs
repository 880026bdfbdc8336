//! Slice first, wrap second: what a `Bytes` of 200 bytes keeps of a read of 2 MiB, each way round.
//!
//! `cargo run -p tailpin-arena --example bytes_slices --features bytes`

use bytes::Bytes;
use tailpin_arena::Arena;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::builder().size(64 << 20).build()?;

    let read = arena.alloc_tagged(2 << 20, "read")?.freeze();
    let header = Bytes::from(read.slice(5000..5200));
    drop(read);
    println!("slice first, wrap second: {} bytes keep {} bytes", header.len(), arena.stats().in_use());
    drop(header);

    let read = arena.alloc_tagged(2 << 20, "read")?.freeze();
    let header = Bytes::from(read).slice(5000..5200);
    println!("wrap first, slice second: {} bytes keep {} bytes", header.len(), arena.stats().in_use());
    println!("who keeps it: {}", arena.worst_holders(1)[0]);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
