//! A vector of `allocator-api2` in an arena: 2 MiB pages under it, and no memory behind what it
//! needs after shrinking.
//!
//! `cargo run -p tailpin-arena --example vec_in_arena --features allocator-api2`

use allocator_api2::vec::Vec;
use tailpin_arena::Arena;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::builder().size(64 << 20).build()?;
    let mut numbers = Vec::with_capacity_in(1 << 20, arena.clone());
    numbers.extend(0..1_000_000_u64);
    println!("{} numbers at {:p}, {} bytes in use", numbers.len(), numbers.as_ptr(), arena.stats().in_use());
    numbers.retain(|number| number % 1000 == 0);
    numbers.shrink_to_fit();
    println!("{} numbers at {:p}, {} bytes in use", numbers.len(), numbers.as_ptr(), arena.stats().in_use());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
