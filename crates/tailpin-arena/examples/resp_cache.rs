//! A small RESP server (`SET`, `GET`, `INFO`) that keeps values where they were read, three times
//! over: as slices of `bytes`, as this crate's slices, and by the hybrid policy. A client sends the
//! same load to each: nearly all values are overwritten at once, every 128th stays. What each
//! server process holds is printed side by side.
//!
//! `cargo run -p tailpin-arena --example resp_cache --features bytes [MIB]`

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use tailpin_arena::{Arena, Kept, Policy, ReadBuffer, Slice};

const READ: usize = 256 << 10;
const VALUE: usize = 1000;
/// One value in so many stays.
const STAYS: usize = 128;
const STEPS: usize = 16;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where requests are read into, and what a value is kept as.
trait Memory {
    type Request: AsRef<[u8]>;
    type Value: AsRef<[u8]>;

    /// `begun`, the beginning of a request, and behind it what the stream has.
    fn read(&mut self, begun: &[u8], stream: &mut impl Read) -> Result<Self::Request>;
    fn keep(&self, request: &Self::Request, range: Range<usize>) -> Self::Value;
}

struct WithBytes;

impl Memory for WithBytes {
    type Request = Bytes;
    type Value = Bytes;

    fn read(&mut self, begun: &[u8], stream: &mut impl Read) -> Result<Bytes> {
        let mut buffer = vec![0; READ];
        buffer[..begun.len()].copy_from_slice(begun);
        let n = stream.read(&mut buffer[begun.len()..])?;
        buffer.truncate(begun.len() + n);
        Ok(buffer.into())
    }

    fn keep(&self, request: &Bytes, range: Range<usize>) -> Bytes {
        request.slice(range)
    }
}

struct WithArena {
    arena: Arena,
    policy: Policy,
    reads: usize,
}

impl Memory for WithArena {
    type Request = Slice;
    type Value = Kept;

    fn read(&mut self, begun: &[u8], stream: &mut impl Read) -> Result<Slice> {
        self.reads += 1;
        if self.reads.is_multiple_of(16) {
            // A service would leave this to `Arena::spawn_releaser`.
            self.arena.release(usize::MAX)?;
        }
        let mut buffer = ReadBuffer::new(self.arena.alloc(READ)?);
        buffer.write_all(begun)?;
        buffer.read_from(stream)?;
        Ok(buffer.freeze())
    }

    fn keep(&self, request: &Slice, range: Range<usize>) -> Kept {
        request.slice(range).keep(self.policy)
    }
}

/// One request: where its words lie and where it ends, or `None` if it isn't all there.
fn parse(bytes: &[u8]) -> Result<Option<(Vec<Range<usize>>, usize)>> {
    let mut at = 0;
    let number = |at: &mut usize, sign: u8| -> Result<Option<usize>> {
        let Some(end) = bytes[*at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let line = &bytes[*at..*at + end];
        if line.first() != Some(&sign) {
            return Err("not RESP".into());
        }
        *at += end + 2;
        Ok(Some(std::str::from_utf8(&line[1..])?.parse()?))
    };
    let Some(count) = number(&mut at, b'*')? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(len) = number(&mut at, b'$')? else { return Ok(None) };
        if len > READ / 2 {
            return Err("a word too long".into());
        }
        if bytes.len() < at + len + 2 {
            return Ok(None);
        }
        words.push(at..at + len);
        at += len + 2;
    }
    Ok(Some((words, at)))
}

/// Serves one connection to its end.
fn serve<M: Memory>(mut memory: M, mut stream: TcpStream) -> Result<()> {
    let mut store: HashMap<Vec<u8>, M::Value> = HashMap::new();
    let mut begun = Vec::new();
    loop {
        let request = memory.read(&begun, &mut stream)?;
        if request.as_ref().len() == begun.len() {
            return Ok(());
        }
        let mut replies = Vec::new();
        let mut done = 0;
        while let Some((words, end)) = parse(&request.as_ref()[done..])? {
            let word =
                |i: usize| words.get(i).map(|range: &Range<usize>| range.start + done..range.end + done);
            let bytes = |i: usize| word(i).map_or(&[][..], |range| &request.as_ref()[range]);
            match (bytes(0), words.len()) {
                (b"SET", 3) => {
                    let value = memory.keep(&request, word(2).expect("three words"));
                    store.insert(bytes(1).to_vec(), value);
                    replies.extend(b"+OK\r\n");
                }
                (b"GET", 2) => match store.get(bytes(1)) {
                    None => replies.extend(b"$-1\r\n"),
                    Some(value) => {
                        write!(replies, "${}\r\n", value.as_ref().len())?;
                        replies.extend(value.as_ref());
                        replies.extend(b"\r\n");
                    }
                },
                (b"INFO", 1) => {
                    let live: usize = store.values().map(|value| value.as_ref().len()).sum();
                    write!(replies, "+{} {live}\r\n", resident()?)?;
                }
                _ => replies.extend(b"-ERR unknown command\r\n"),
            }
            done += end;
        }
        begun = request.as_ref()[done..].to_vec();
        stream.write_all(&replies)?;
    }
}

/// Bytes of this process that are in memory.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}

/// A server process and a connection to it.
struct Server {
    process: Child,
    stream: BufReader<TcpStream>,
}

impl Server {
    fn start(memory: &str) -> Result<Self> {
        let mut process =
            Command::new(std::env::current_exe()?).args(["serve", memory]).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut port)?;
        let stream = BufReader::new(TcpStream::connect(("127.0.0.1", port.trim().parse()?))?);
        Ok(Self { process, stream })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line)
    }

    /// Sends values `from..to`, 64 at a time.
    fn load(&mut self, numbers: Range<usize>) -> Result<()> {
        let numbers: Vec<usize> = numbers.collect();
        for batch in numbers.chunks(64) {
            let mut requests = Vec::new();
            for &number in batch {
                let key = key(number);
                write!(requests, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${VALUE}\r\n", key.len())?;
                requests.resize(requests.len() + VALUE, number as u8);
                requests.extend(b"\r\n");
            }
            self.stream.get_mut().write_all(&requests)?;
            for _ in batch {
                assert_eq!(self.line()?, "+OK\r\n");
            }
        }
        Ok(())
    }

    /// Bytes resident, and bytes in values.
    fn info(&mut self) -> Result<(usize, usize)> {
        self.stream.get_mut().write_all(b"*1\r\n$4\r\nINFO\r\n")?;
        let line = self.line()?;
        let (resident, live) = line.trim().trim_start_matches('+').split_once(' ').ok_or("no INFO")?;
        Ok((resident.parse()?, live.parse()?))
    }

    /// Asks for every value that stayed.
    fn check(&mut self, sent: usize) -> Result<()> {
        for number in (0..sent).step_by(STAYS) {
            let key = key(number);
            let request = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
            self.stream.get_mut().write_all(request.as_bytes())?;
            assert_eq!(self.line()?, format!("${VALUE}\r\n"));
            let mut value = [0; VALUE + 2];
            self.stream.read_exact(&mut value)?;
            assert!(value[..VALUE].iter().all(|&byte| byte == number as u8), "{key} is damaged");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of the connection is the end of the server.
        let _ = self.stream.get_mut().shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

fn key(number: usize) -> String {
    if number.is_multiple_of(STAYS) { format!("session:{number}") } else { format!("latest:{}", number % 16) }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [serve_word, memory] = &args[..]
        && serve_word == "serve"
    {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("{}", listener.local_addr()?.port());
        io::stdout().flush()?;
        let (stream, _) = listener.accept()?;
        let arena = |policy| -> Result<_> {
            // Address space: what is free is given back.
            Ok(WithArena { arena: Arena::builder().size(1 << 30).build()?, policy, reads: 0 })
        };
        return match memory.as_str() {
            "bytes" => serve(WithBytes, stream),
            "pins" => serve(arena(Policy::CopyBelow(0))?, stream),
            _ => serve(arena(Policy::default())?, stream),
        };
    }
    let mib: usize = args.first().map_or(Ok(192), |mib| mib.parse())?;
    let sent = (mib << 20) / VALUE;

    let names = ["bytes", "pins", "hybrid"];
    let mut servers = names.map(Server::start).into_iter().collect::<Result<Vec<_>>>()?;
    println!(
        "resident MiB of each server\n\n  received     alive{:>10}{:>10}{:>10}",
        names[0], names[1], names[2]
    );
    let mut last = Vec::new();
    for step in 0..STEPS {
        let numbers = sent * step / STEPS..sent * (step + 1) / STEPS;
        let mut row = String::new();
        last.clear();
        let mut alive = 0;
        for server in &mut servers {
            server.load(numbers.clone())?;
            let (resident, live) = server.info()?;
            row += &format!("{:>10.1}", resident as f64 / (1 << 20) as f64);
            alive = live;
            last.push(resident);
        }
        let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
        println!("{:>10.0}{:>10.1}{row}", mib(numbers.end * VALUE), mib(alive));
    }
    for server in &mut servers {
        server.check(sent)?;
    }
    assert!(mib < 64 || last[0] > 5 * last[1].max(last[2]), "memory is not what it should be: {last:?}");
    println!("\nevery value that stayed was read back and is whole");
    Ok(())
}
