//! A program to look at: a cache that keeps records of what it reads, for a minute, under two tags,
//! and small copies.
//!
//! ```sh
//! cargo run --release -p tailpin-arena --example watched &
//! cargo run --release -- top
//! cargo run --release -- map
//! cargo run --release -- holders --older-than 5
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tailpin_arena::{Arena, Pace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(60), |seconds| seconds.parse())?;
    let arena = Arena::builder().size(256 << 20).keep_resident(8 << 20).build()?;
    let releaser = arena.spawn_releaser(Pace::default())?;
    println!("process {} for {seconds} s", std::process::id());
    let (mut index, mut blocks, mut names) = (Vec::new(), VecDeque::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(seconds);
    for read in 0_usize.. {
        if Instant::now() > end {
            break;
        }
        let Ok(mut buffer) = arena.alloc_tagged(2 << 20, "read") else {
            blocks.clear();
            continue;
        };
        buffer.fill(read as u8);
        let bytes = buffer.freeze();
        // A record of 200 bytes now and then is kept for good, a block of 64 KiB for a while.
        if read.is_multiple_of(40) && index.len() < 60 {
            index.push(bytes.slice(1000..1200));
        }
        // A name of each read, in pages that such copies share.
        names.push(arena.copy(format!("what was read as number {read}").as_bytes())?);
        blocks.push_back(bytes.slice(512 << 10..576 << 10));
        if blocks.len() > 64 {
            blocks.pop_front();
        }
        if read.is_multiple_of(200) && index.len() < 60 {
            index.push(arena.alloc_tagged(300 << 10, "index")?.freeze());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    releaser.stop()?;
    println!("{}", arena.stats());
    Ok(())
}
