//! One budget for everything that a process downloads: each download waits for its share before it
//! begins, and its share comes back with the last clone of the last slice of the answer.
//!
//! `cargo run --release -p tailpin-arena --example budget --features bytes,tokio` finishes under a
//! hard limit of 600 MiB (a cgroup's); with `-- stock` at the end plain `Bytes` are killed there:
//! 64 downloads of 48 MiB are wanted at once.
use bytes::{BufMut, Bytes, BytesMut};
use tailpin_arena::{AllocError, Arena, ReadBuffer};

const OBJECT: usize = 48 << 20;

async fn receive(body: &mut impl BufMut, object: u8) {
    for _ in 0..OBJECT >> 20 {
        body.put_bytes(object, 1 << 20); // as it comes from the network
        tokio::task::yield_now().await;
    }
}

async fn download(arena: Option<&Arena>, object: u8) -> Result<Bytes, AllocError> {
    let Some(arena) = arena else {
        let mut body = BytesMut::with_capacity(OBJECT);
        receive(&mut body, object).await;
        return Ok(body.freeze());
    };
    let mut body = ReadBuffer::new(arena.alloc_async(OBJECT).await?); // waits, before it reads
    receive(&mut body, object).await;
    Ok(body.freeze().into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stock = std::env::args().any(|arg| arg == "stock");
    let arena = Arena::builder().limit(512 << 20).build()?;
    let mut downloads = tokio::task::JoinSet::new();
    for object in 0..64 {
        let arena = (!stock).then(|| arena.clone());
        downloads.spawn(async move {
            let part = download(arena.as_ref(), object).await?.slice(OBJECT / 2..);
            Ok::<_, AllocError>(part.iter().all(|byte| *byte == object))
        });
    }
    while let Some(right) = downloads.join_next().await {
        assert!(right??);
        println!("{:3} MiB in use, {} downloads wait", arena.in_use() >> 20, arena.waiting());
    }
    Ok(())
}
