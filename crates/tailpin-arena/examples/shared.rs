//! Two processes share memory by the page; one is killed, and all it held comes back.
//!
//! ```sh
//! cargo run --release -p tailpin-arena --example shared
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Instant;

use tailpin_arena::Arena;
use tailpin_arena::shared::{SharedArena, SharedError, Token};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LINE: &[u8] = b"a line of 40 bytes, somewhere in 2 MiB. \n";

fn main() -> Outcome {
    match std::env::args().nth(1) {
        None => parent(),
        Some(path) => child(&path),
    }
}

/// Fills a large block, gives away one line of it, and forgets the rest.
fn child(path: &str) -> Outcome {
    let file = File::options().read(true).write(true).open(path)?;
    // SAFETY: the parent made the file with `create`, and both processes use nothing but this crate
    // on it.
    let arena = unsafe { SharedArena::attach(file.into()) }?;
    let mut buffer = arena.alloc(2 << 20)?;
    buffer[1_000_000..][..LINE.len()].copy_from_slice(LINE);
    let block = buffer.freeze();
    let line = block.slice(1_000_000..1_000_000 + LINE.len())?;
    let _more = (block.try_clone()?, block.slice(..)?);
    io::stdout().write_all(&line.token().to_bytes())?;
    io::stdout().flush()?;
    loop {
        std::thread::park(); // With all of it in hand, until it is killed.
    }
}

fn parent() -> Outcome {
    let arena = SharedArena::create(64 << 20, 4)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), arena.as_raw_fd());
    let mut child = Command::new(std::env::current_exe()?).arg(path).stdout(Stdio::piped()).spawn()?;
    let mut token = [0; 24];
    child.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut token)?;

    let line = arena.adopt(Token::from_bytes(token))?;
    print!("the other process says: {}", String::from_utf8_lossy(&line));
    let used = || (arena.size() - arena.free_bytes()) / 1024;
    println!("in use: {} KiB", used());

    child.kill()?;
    child.wait()?;
    for (owner, recovered) in arena.recover_dead() {
        println!("{owner} was killed: {recovered:?}");
    }
    println!("in use: {} KiB, for: {}", used(), String::from_utf8_lossy(&line).trim_end());

    let alone = Arena::builder().size(4 << 20).build()?;
    let own = alone.alloc(LINE.len())?.freeze();
    let pin = per_round(|| line.try_clone())?;
    let pin_alone = per_round(|| Ok::<_, SharedError>(own.clone()))?;
    println!("one more pin and its return: {pin} ns; in an arena of one process: {pin_alone} ns");
    let page = per_round(|| arena.alloc(4096))?;
    let page_alone = per_round(|| alone.alloc(4096))?;
    println!("a page and its return: {page} ns; in an arena of one process: {page_alone} ns");
    drop(line);
    let audit = arena.audit();
    println!("{audit}");
    if audit.violations() > 0 || audit.free < audit.frames {
        Err("something was lost".into())
    } else {
        Ok(())
    }
}

/// Nanoseconds to make one and drop it, in the best of ten runs.
fn per_round<T, E>(mut make: impl FnMut() -> Result<T, E>) -> Result<u128, E> {
    const ROUNDS: u32 = 20_000;
    let mut best = u128::MAX;
    for _ in 0..10 {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            drop(make()?);
        }
        best = best.min(begin.elapsed().as_nanos() / u128::from(ROUNDS));
    }
    Ok(best)
}
