//! HTTP requests read by `tokio` into large buffers; the header that is kept keeps one page.
//!
//! `cargo run -p tailpin-arena --example tokio_headers --features tokio`

use tailpin_arena::{Arena, ReadBuffer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const REQUESTS: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arena = Arena::builder().size(64 << 20).build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let client = tokio::spawn(async move {
        for request in 0..REQUESTS {
            let mut stream = TcpStream::connect(address).await?;
            let head = format!(
                "POST /upload HTTP/1.1\r\nx-request-id: {request:08}\r\ncontent-length: 200000\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&[0; 200_000]).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut ids = Vec::new();
    for _ in 0..REQUESTS {
        let (mut stream, _) = listener.accept().await?;
        let mut buffer = ReadBuffer::new(arena.alloc(256 << 10)?);
        buffer.fill_from_async(&mut stream).await?;
        let request = buffer.freeze();
        let id = request.windows(14).position(|part| part == b"x-request-id: ").ok_or("no id")? + 14;
        ids.push(request.slice(id..id + 8));
    }
    client.await??;
    assert!(ids.iter().enumerate().all(|(i, id)| *id == *format!("{i:08}").as_bytes()));
    println!("{REQUESTS} ids of 8 bytes from requests of 200 kB keep {} bytes", arena.stats().in_use());
    println!("with a copy instead: {} bytes", ids.iter().map(|id| id.len()).sum::<usize>());
    Ok(())
}

#[test]
fn runs() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
