//! A file copied by a `compio` runtime: read into an arena, written from a slice of it.
//!
//! `cargo run -p tailpin-arena --example compio_file --features compio`

use compio::fs::File;
use compio::io::{AsyncReadAt, AsyncWriteAtExt};
use tailpin_arena::{Arena, ReadBuffer, Slice};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("tailpin-compio-example-{}", std::process::id()));
    let arena = Arena::builder().size(16 << 20).build()?;
    let copied = compio::runtime::Runtime::new()?.block_on(async {
        let source = File::open(std::env::current_exe()?).await?;
        let (read, buffer) = source.read_at(ReadBuffer::new(arena.alloc(1 << 20)?), 0).await.into();
        read?;
        let page = Slice::slice(&buffer.freeze(), ..4096);
        let mut target = File::create(&path).await?;
        target.write_all_at(page, 0).await.0?;
        target.close().await?;
        Ok::<_, Box<dyn std::error::Error>>(std::fs::metadata(&path)?.len())
    })?;
    std::fs::remove_file(&path)?;
    println!("{copied} bytes copied, {} still in use", arena.stats().in_use());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
