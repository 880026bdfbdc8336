//! A guest of 64 MiB on huge pages; its balloon takes single pages, and the kernel gets every one
//! of them.
//!
//! `cargo run -p tailpin-arena --example guest_balloon --features vm-memory`

use tailpin_arena::Arena;
use tailpin_arena::vm_memory::GuestRegion;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestRegionCollection};

const MIB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::builder().size(64 * MIB).build()?;
    println!("huge pages? {}", arena.abilities().huge_now);
    let memory =
        GuestRegionCollection::from_regions(vec![GuestRegion::new(&arena, GuestAddress(0), 64 * MIB)?])?;
    for page in 0..64 * MIB as u64 / 4096 {
        memory.write_obj(page, GuestAddress(page * 4096))?;
    }
    // Every other page of the first half is free in the guest.
    let region = memory.find_region(GuestAddress(0)).expect("it begins there");
    let (mut asked, mut returned) = (0, 0);
    for page in (0..32 * MIB as u64 / 4096).step_by(2) {
        let released = region.inflate(GuestAddress(page * 4096), 1)?;
        asked += released.asked;
        returned += released.returned;
    }
    println!("balloon: {} MiB asked for in pages of 4 KiB, {} MiB given back", asked / MIB, returned / MIB);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(4096))?, 1);
    // The guest takes one back by using it.
    memory.write_obj(42_u64, GuestAddress(8192))?;
    println!("deflated by use: {}", memory.read_obj::<u64>(GuestAddress(8192))?);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
