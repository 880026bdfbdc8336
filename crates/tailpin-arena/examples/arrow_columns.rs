//! A file of two columns read once; an Arrow array over a few rows keeps the pages of those rows.
//!
//! `cargo run -p tailpin-arena --example arrow_columns --features arrow`

use arrow_buffer::{Buffer, ScalarBuffer};
use tailpin_arena::{Arena, ReadBuffer};

const ROWS: usize = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The file: all prices, then all quantities.
    let path = std::env::temp_dir().join(format!("tailpin-columns-{}", std::process::id()));
    let prices = (0..ROWS as i64).flat_map(i64::to_le_bytes);
    let quantities = (0..ROWS as i64).map(|row| row % 7).flat_map(i64::to_le_bytes);
    std::fs::write(&path, prices.chain(quantities).collect::<Vec<u8>>())?;

    let arena = Arena::builder().size(64 << 20).build()?;
    let mut buffer = ReadBuffer::new(arena.alloc(ROWS * 16)?);
    buffer.fill_from(&mut std::fs::File::open(&path)?)?;
    std::fs::remove_file(&path)?;
    let file = buffer.freeze();

    // LIMIT 100 OFFSET 50000
    let column =
        |at: usize| ScalarBuffer::<i64>::from(Buffer::from(file.slice(at + 50_000 * 8..at + 50_100 * 8)));
    let (prices, quantities) = (column(0), column(ROWS * 8));
    drop(file);
    let turnover: i64 = prices.iter().zip(&quantities[..]).map(|(price, quantity)| price * quantity).sum();
    println!("100 rows, turnover {turnover}");
    println!("{} bytes of columns keep {} of the {} that were read", 1600, arena.stats().in_use(), ROWS * 16);
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
